"""A gRPC model as models are: a server of `ModzyModel` that misbehaves as its environment says.

It is a program of its own, in a container too, and shares nothing with the product. Start it with
`python -m tests.support.models.grpc_model_server`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

from tests.support.models.modzy_messages import MESSAGES


class Model:
    """`env` says how each call goes: see there."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.ended = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        calls = {"Status": self._status, "Run": self._run, "Shutdown": self._shutdown}
        if "STATUS_ABSENT" in self._env:
            del calls["Status"]
        return grpc.method_handlers_generic_handler(
            "ModzyModel",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    call, request_deserializer=MESSAGES[f"{name}Request"].FromString
                )
                for name, call in calls.items()
            },
        )

    async def _status(self, _request: Any, _context: Any) -> bytes:
        await asyncio.sleep(float(self._env.get("STATUS_DELAY", "0")))
        if "STATUS_RAW" in self._env:
            return self._env["STATUS_RAW"].encode()
        code = int(self._env.get("STATUS_CODE", "200"))
        message = (
            "Model Initialized Successfully." if code == 200 else "Model Failed to Initialize."
        )
        reply = MESSAGES["StatusResponse"](status_code=code, status="OK", message=message)
        reply.model_info.model_name = "example"
        return bytes(reply.SerializeToString())

    async def _run(self, request: Any, _context: Any) -> bytes:
        await asyncio.sleep(float(self._env.get("RUN_DELAY", "0")))
        if "RUN_RAW" in self._env:
            return self._env["RUN_RAW"].encode("latin-1")
        code = int(self._env.get("RUN_CODE", "200"))
        reply = MESSAGES["RunResponse"](status_code=code, status="OK", message="Inference executed")
        for item in request.inputs:
            output = reply.outputs.add(success="RUN_FAILS" not in self._env)
            if output.success:
                names = sorted(item.input)
                read = "".join(f"{name}={item.input[name].decode()};" for name in names)
                results = json.dumps({"read": read})
                output.output[self._env.get("WRITE", "results.json")] = results.encode()
                if "WRITE_TOO" in self._env:
                    output.output[self._env["WRITE_TOO"]] = b"not json"
            else:
                output.output["error"] = self._env["RUN_FAILS"].encode()
        return bytes(reply.SerializeToString())

    async def _shutdown(self, _request: Any, _context: Any) -> bytes:
        if "STUBBORN" not in self._env:
            self.ended.set()
        reply = MESSAGES["ShutdownResponse"](status_code=200, status="OK", message="bye")
        return bytes(reply.SerializeToString())


@asynccontextmanager
async def a_model(host: str = "127.0.0.1", **env: str) -> AsyncIterator[int]:
    """Port of a gRPC model in this process that behaves as `env` says."""
    server = aio.server()
    server.add_generic_rpc_handlers((Model(env).handlers(),))
    port = server.add_insecure_port(f"[{host}]:0" if ":" in host else f"{host}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def serve(env: Mapping[str, str]) -> None:
    """Until Shutdown or SIGTERM."""
    model, server = Model(env), aio.server()
    server.add_generic_rpc_handlers((model.handlers(),))
    port = env.get("LISTEN_ON") or env["PSC_MODEL_PORT"]
    server.add_insecure_port(f"0.0.0.0:{port}")
    await server.start()
    print(f"serving gRPC on port {port}", flush=True)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, model.ended.set)
    await model.ended.wait()
    await server.stop(0.2)


if __name__ == "__main__":
    asyncio.run(serve(os.environ))

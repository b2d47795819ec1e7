"""Runs the unmodified `modzy-sdk` as somebody's script would: a process of its own.

Reads one JSON object, `{base_url, api_key, deploy: {…}}`, from its standard input. The last line
that it writes is `{"base_url", "answer"}`, or `{"error", "message"}` with what the client raised.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

DEADLINE_S = 110


async def deploy(base_url: str, api_key: str, **wanted: Any) -> dict[str, Any]:
    """What `ApiClient(base_url, api_key).models.deploy(**wanted)` gave, or why it did not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    asked = json.dumps({"base_url": base_url, "api_key": api_key, "deploy": wanted}).encode()
    try:
        out, err = await asyncio.wait_for(process.communicate(asked), DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-2000:]
    said: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return said


def _main() -> None:
    from modzy import ApiClient

    asked = json.load(sys.stdin)
    try:
        client = ApiClient(base_url=asked["base_url"], api_key=asked["api_key"])
        answer = client.models.deploy(**asked["deploy"])
    except Exception as error:  # noqa: BLE001 - whatever a script of a user would see
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    else:
        print(json.dumps({"base_url": client.base_url, "answer": answer}))


if __name__ == "__main__":
    _main()

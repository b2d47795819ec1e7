"""The platform's own OCI registry: Debian's `docker-registry` on loopback, deletes allowed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.stack import probes
from pipeline.stack.piece import Piece, program


class RegistryPiece(Piece):
    """An OCI registry over plain HTTP on loopback; deletes are allowed."""

    name = "registry"

    def __init__(self, folder: Path, *, port: int, log: Path | None = None) -> None:
        super().__init__(folder, log=log)
        self.port: int = port

    @property
    def host(self) -> str:
        """`host:port`, as it stands in image references."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        # JSON is YAML.
        self._config.write_text(json.dumps(_config(self.folder / "data", self.host), indent=1))

    def command(self) -> Sequence[str]:
        binary = program("docker-registry", remedy="run `make setup` (package docker-registry).")
        return [binary, "serve", str(self._config)]

    def environment(self) -> Mapping[str, str]:
        # Each answer with a blob takes a buffer of 4 MiB; at the default the registry spends half
        # of its time collecting them. Costs some 150 MB of memory.
        return {"GOGC": "800"} | os.environ

    async def ready(self) -> bool:
        answer = await probes.get("127.0.0.1", self.port, "/v2/")
        return answer is not None and answer.status == 200

    @property
    def _config(self) -> Path:
        return self.folder / "registry.yml"


def _config(data: Path, address: str) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "delete": {"enabled": True},
            # As in the registry's own default: what a blob is need not be read from disk each time.
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {
            "addr": address,
            "relativeurls": True,
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        },
    }

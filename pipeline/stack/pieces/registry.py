"""The platform's own OCI registry: Debian's `docker-registry` on loopback, deletes allowed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import concurrency
from pipeline.adapters.registry import tokens
from pipeline.errors import Misconfigured
from pipeline.own_registry.collection import REPOSITORIES, blob_sizes, reclaimed
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import Piece, program
from pipeline.stack.processes.process import Process, telling_line
from pipeline.stack.state import write_private


class RegistryPiece(Piece):
    """An OCI registry over plain HTTP on loopback; deletes are allowed."""

    name = "registry"
    is_read_only = False
    """From its next start on: it is pulled from and refuses every push."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        log: Path | None = None,
        keys: str = "",
        realm: str = "",
    ) -> None:
        """With `keys` it wants tokens made with one of them; engines get theirs at `realm`."""
        super().__init__(folder, port=port, log=log)
        self._keys = keys
        self._realm = realm

    @property
    def host(self) -> str:
        """`host:port`, as it stands in image references."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        config = _config(self._data, self.host, is_read_only=self.is_read_only)
        if self._keys:
            bundle = self.folder / "tokens.pem"
            write_private(bundle, tokens.certificates(self._keys))
            config["auth"] = {"token": _tokens(self._realm, bundle)}
        # JSON is YAML.
        self._config.write_text(json.dumps(config, indent=1))

    def command(self) -> Sequence[str]:
        return [_binary(), "serve", str(self._config)]

    def environment(self) -> Mapping[str, str]:
        # Each answer with a blob takes a buffer of 4 MiB; at the default the registry spends half
        # of its time collecting them. Costs some 150 MB of memory.
        return {"GOGC": "800"} | os.environ

    async def ready(self) -> bool:
        return await probes.status("127.0.0.1", self.port, "/v2/") in (200, 401)

    async def collect(self, *, is_dry_run: bool) -> int:
        """Bytes of blobs that no manifest refers to, and remove them unless `is_dry_run`.

        Those of a push under way are among them. What was removed it takes for present until its
        next start. Ends with this process. Raises Misconfigured, naming the log.
        """
        if not (self._data / REPOSITORIES).exists():
            return 0
        log = self.log.with_name("registry-collection.log")
        log.unlink(missing_ok=True)
        collecting = Process(log)
        dry = ["--dry-run"] if is_dry_run else []
        sizes = await asyncio.to_thread(blob_sizes, self._data)
        # Nothing is waited for between its start and `try`: whoever is cancelled there would leave
        # it running, while the registry takes pushes again.
        collecting.spawn([_binary(), "garbage-collect", *dry, str(self._config)])
        try:
            await collecting.wait()
        finally:
            await concurrency.run_to_completion(collecting.kill())
        if collecting.exit_code != 0:
            raise Misconfigured(
                f"The registry's blobs cannot be collected; {log} says: {telling_line(log)}"
            )
        return reclaimed(log.read_text(), sizes)

    def used_bytes(self) -> int:
        """Of all blobs. Blocks."""
        return sum(blob_sizes(self._data).values())

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _config(self) -> Path:
        return self.folder / "registry.yml"


def _binary() -> str:
    return program("docker-registry", remedy="run `make setup` (package docker-registry).")


def _config(data: Path, address: str, *, is_read_only: bool) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": is_read_only}},
            # As in the registry's own default: what a blob is need not be read from disk each time.
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {
            "addr": address,
            "relativeurls": True,
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        },
    }


def _tokens(realm: str, bundle: Path) -> dict[str, str]:
    return {
        "realm": realm,
        "service": tokens.SERVICE,
        "issuer": tokens.ISSUER,
        "rootcertbundle": str(bundle),
    }

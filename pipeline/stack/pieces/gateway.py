"""The gateway's HAProxy, Debian's package. What it knows is kept by `python -m workers.gateway`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.gateway.routing import Listening, configuration
from pipeline.stack.processes.piece import Piece


def lay_out(haproxy: Haproxy, listening: Listening) -> None:
    """Have it begin with what it knew last, if it is to listen as it did then; else with nothing.

    Raises Misconfigured for a signing key that it cannot read.
    """
    if not haproxy.revoked.exists():
        haproxy.revoke(())
    empty = configuration(listening, {})
    if not haproxy.file.exists() or not haproxy.file.read_text().startswith(empty):
        haproxy.file.touch(mode=0o600)
        haproxy.file.write_text(empty)


class HaproxyPiece(Piece):
    """See `lay_out`."""

    name = "haproxy"

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        signing_key: str,
        activators: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        """`activators` are `host:port` of the servers."""
        super().__init__(folder, port=port, log=log)
        key = hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]
        # Paths of Unix sockets are limited to 107 bytes: a state folder may lie deeper.
        self.run_folder = Path(f"/run/modelyard-gateway-{key}")
        self._haproxy = Haproxy(self.run_folder)
        self._signing_key = signing_key
        self._activators = tuple(activators)

    @property
    def bind(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.bind}"

    @property
    def follower_env(self) -> dict[str, str]:
        """What `python -m workers.gateway` is told to look after this one."""
        folder = str(self.run_folder)
        return {
            "MODELYARD_GATEWAY_BIND": self.bind,
            "MODELYARD_GATEWAY_FOLDER": folder,
            "MODELYARD_GATEWAY_ACTIVATORS": ",".join(self._activators),
        }

    @property
    def listening(self) -> Listening:
        files = (str(self._haproxy.admin_socket), str(self._haproxy.revoked))
        return Listening(self.bind, *files, self._signing_key, self._activators)

    def prepare(self) -> None:
        self.run_folder.mkdir(mode=0o700, exist_ok=True)
        lay_out(self._haproxy, self.listening)

    def command(self) -> Sequence[str]:
        return self._haproxy.command()

    def _listens(self) -> bool:
        # Its worker does, a child that changes with each reload. On a taken port it ends at once.
        return self.running

    async def ready(self) -> bool:
        # It wants a token first.
        return await self.answers("/", status=401)

    async def clean(self) -> None:
        shutil.rmtree(self.run_folder, ignore_errors=True)

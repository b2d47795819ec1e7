"""The real `docker-registry`, behind a password."""

from __future__ import annotations

import json
from typing import Any

from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes import probes

USER, PASSWORD = "me", "hunter2"
HTPASSWD = f"{USER}:$2y$05$oH4d.iA9Po.VUgamcB9x0e.zlh2m1kj1c.V4we/gXUUBnQxhRCBp.\n"
"""Of PASSWORD."""


class LockedRegistry(RegistryPiece):
    """Asks for USER and PASSWORD once `locked` is set."""

    locked = False

    def prepare(self) -> None:
        super().prepare()
        users = self.folder / "htpasswd"
        users.write_text(HTPASSWD)
        file = self.folder / "registry.yml"
        config: dict[str, Any] = json.loads(file.read_text())
        if self.locked:
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        file.write_text(json.dumps(config))

    async def ready(self) -> bool:
        return await probes.status("127.0.0.1", self.port, "/v2/") in (200, 401)

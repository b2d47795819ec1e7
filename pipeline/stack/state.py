"""The state folder of one embedded stack: where its pieces keep what, and who runs it now."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import Conflict, Misconfigured
from pipeline.stack.owner import Owner


class Run(BaseModel):
    """What a running stack says about itself, for `down` and for a second `up`."""

    pid: int
    started: int
    shared_engine: str = ""
    installation: str = ""
    ready: bool = False

    @property
    def supervisor(self) -> Owner:
        return Owner(self.pid, self.started)


class State:
    """Everything below one folder; only its owner may look inside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.env_file = self.folder / "env"
        self.keys_file = self.folder / "keys.json"
        self._addresses = self.folder / "addresses.json"
        self._run = self.folder / "run.json"
        self._lock = self.folder / "lock"

    @property
    def key(self) -> str:
        """Tells this stack from others on the machine."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]

    def create(self) -> None:
        """Raises Misconfigured when the folder cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise Misconfigured(
                f"The state folder {self.folder} cannot be used ({error.strerror}): "
                "set MODELYARD_STATE to a folder of your own."
            ) from error

    def piece(self, name: str) -> Path:
        return self.folder / name

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    @contextmanager
    def held(self) -> Iterator[None]:
        """One stack at a time uses the folder; a crash lets go. Raises Conflict."""
        with self._lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"A stack already runs from {self.folder}: stop it with `modelyard down`, "
                    "or set MODELYARD_STATE to start another."
                ) from error
            yield

    @property
    def run(self) -> Run | None:
        """Of the stack that runs or, when that died, of the last one."""
        if not self._run.exists():
            return None
        return Run.model_validate_json(self._run.read_text())

    def write_run(self, run: Run) -> None:
        write_private(self._run, run.model_dump_json())

    @property
    def addresses(self) -> dict[str, str]:
        """What the last stack told its callers, by the name of the setting."""
        if not self._addresses.exists():
            return {}
        found: dict[str, str] = json.loads(self._addresses.read_text())
        return found

    def write_addresses(self, addresses: dict[str, Any]) -> None:
        write_private(self._addresses, json.dumps(addresses, indent=1))

    def forget_run(self) -> None:
        self.env_file.unlink(missing_ok=True)
        self._run.unlink(missing_ok=True)


def write_private(file: Path, text: str) -> None:
    """Whole or not at all, mode 0600 from the first byte."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
    draft.replace(file)

"""The state folder of one embedded stack: what its pieces keep, its keys, and who runs it now."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, Field

from pipeline.adapters.registry.tokens import make_key
from pipeline.errors import Conflict, Misconfigured
from pipeline.stack.processes.process import Owner

PUBLISHED = (
    "MODELYARD_URL",
    "MODELYARD_TOKEN",
    "MODELYARD_API_KEY",
    "MODELYARD_ORG",
    "MODELYARD_ORG_ID",
    "MODELYARD_ADMIN_USER",
    "MODELYARD_ADMIN_PASSWORD",
    "MODELYARD_NATS_URL",
    "MODELYARD_MONGO_URL",
    "MODELYARD_REGISTRY",
    "MODELYARD_GATEWAY_URL",
    "MODELYARD_ENGINE",
    "MODELYARD_STATE",
)
"""The variables of `.modelyard/env`, in its order.

The engine goes by a name of its own: whoever loads the file keeps his own DOCKER_HOST.
"""

# In an assignment a shell changes none of these.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./?-]*")


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


def _word() -> str:
    """Letters and digits only: stands in addresses and shell lines without quoting."""
    return secrets.token_hex(20)


class Keys(BaseModel):
    """Made once per state folder and kept: without them nothing stored can be read again."""

    signing_key: str = Field(default_factory=_word)
    registry_keys: str = Field(default_factory=make_key)
    encryption_keys: str = Field(
        default_factory=lambda: "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
    )
    admin_password: str = Field(default_factory=_word)
    nats_password: str = Field(default_factory=_word)
    mongo_password: str = Field(default_factory=_word)
    mongo_key: str = Field(default_factory=_word)
    token: str = ""
    """This and `api_key` are issued by the running system: empty before the first start."""
    api_key: str = ""
    orgs: dict[str, str] = Field(default_factory=dict)
    """Passwords of the broker's users, by org."""

    @classmethod
    def load(cls, file: Path, *, org: str) -> Keys:
        """The keys in `file`, with what they lack made and written back. Idempotent."""
        keys = cls.model_validate_json(file.read_text()) if file.exists() else cls()
        keys.orgs.setdefault(org, _word())
        keys.save(file)
        return keys

    def with_orgs(self, orgs: Collection[str]) -> Keys:
        """A user of the broker for each of these and for no other; known passwords stay."""
        known = {org: self.orgs.get(org) or _word() for org in sorted(orgs)}
        return self.model_copy(update={"orgs": known})

    def save(self, file: Path) -> None:
        write_private(file, self.model_dump_json(indent=1))

    @property
    def settings(self) -> dict[str, str]:
        """What our own processes are told of them, by the name of the setting."""
        return {variable: getattr(self, name) for variable, name in KEY_SETTINGS.items()}


KEY_SETTINGS = {
    "MODELYARD_SIGNING_KEY": "signing_key",
    "MODELYARD_ENCRYPTION_KEYS": "encryption_keys",
    "MODELYARD_ADMIN_PASSWORD": "admin_password",
    "MODELYARD_REGISTRY_KEYS": "registry_keys",
}
NOT_FOR_NODES = KEY_SETTINGS.keys() - {"MODELYARD_ENCRYPTION_KEYS"}
"""What agents do not need, and whoever breaks into a node must not find there."""


class State:
    """Everything below one folder; only its owner may look inside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.env_file = self.folder / "env"
        self.logs = self.folder / "logs"
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
        return self.logs / f"{name}.log"

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

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.supervisor.alive

    def write_run(self, run: Run) -> None:
        write_private(self._run, run.model_dump_json())

    @property
    def addresses(self) -> dict[str, str]:
        """What the last stack told its callers, by the name of the setting."""
        if not self._addresses.exists():
            return {}
        found: dict[str, str] = json.loads(self._addresses.read_text())
        return found

    def write_addresses(self, addresses: dict[str, str]) -> None:
        write_private(self._addresses, json.dumps(addresses, indent=1))

    def write_env(self, facts: Mapping[str, str]) -> None:
        """The published variables that there are, as lines that a shell and most parsers take."""
        lines = (f"{name}={_quoted(facts[name])}\n" for name in PUBLISHED if name in facts)
        write_private(self.env_file, "".join(lines))

    def forget_run(self) -> None:
        self.env_file.unlink(missing_ok=True)
        self._run.unlink(missing_ok=True)


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else shlex.quote(value)


def write_private(file: Path, text: str) -> None:
    """Whole or not at all, mode 0600 from the first byte."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
    draft.replace(file)

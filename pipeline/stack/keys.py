"""Keys and passwords of one stack: made once, kept in its state folder."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from pydantic import BaseModel, Field

from pipeline.stack.state import write_private


def _word() -> str:
    """Letters and digits only: stands in addresses and shell lines without quoting."""
    return secrets.token_hex(20)


class Keys(BaseModel):
    """Made once per state folder and kept: without them nothing stored can be read again."""

    signing_key: str = Field(default_factory=_word)
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


def load_keys(file: Path, *, org: str) -> Keys:
    """The keys in `file`, with what they lack made and written back. Idempotent."""
    keys = Keys.model_validate_json(file.read_text()) if file.exists() else Keys()
    keys.orgs.setdefault(org, _word())
    save_keys(file, keys)
    return keys


def save_keys(file: Path, keys: Keys) -> None:
    write_private(file, keys.model_dump_json(indent=1))

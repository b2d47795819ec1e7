"""What the processes of a stack are told, and what `.modelyard/env` tells everybody else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pipeline
from pipeline.settings import Settings
from pipeline.stack.keys import Keys

PUBLISHED = (
    "MODELYARD_URL",
    "MODELYARD_TOKEN",
    "MODELYARD_API_KEY",
    "MODELYARD_ORG_ID",
    "MODELYARD_ADMIN_USER",
    "MODELYARD_ADMIN_PASSWORD",
    "MODELYARD_NATS_URL",
    "MODELYARD_MONGO_URL",
    "MODELYARD_REGISTRY",
    "DOCKER_HOST",
)
"""The variables of `.modelyard/env`, in its order."""

# In an assignment a shell changes none of these.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./?-]*")


def for_processes(
    inherited: Mapping[str, str],
    settings: Settings,
    keys: Keys,
    addresses: Mapping[str, str],
    installation: str,
) -> dict[str, str]:
    """The environment of our own processes. What the user set wins over what was made up."""
    source = str(Path(pipeline.__file__).parents[1])
    made_up = {
        "MODELYARD_SIGNING_KEY": keys.signing_key,
        "MODELYARD_ENCRYPTION_KEYS": keys.encryption_keys,
        "MODELYARD_ADMIN_PASSWORD": keys.admin_password,
        "MODELYARD_INSTALLATION": installation,
        # The stack's own registry and whatever a developer tries are on this machine.
        "MODELYARD_ALLOW_PRIVATE_ADDRESSES": "true",
    }
    path = ":".join(filter(None, [source, inherited.get("PYTHONPATH", "")]))
    return {
        **made_up,
        **{name: value for name, value in inherited.items() if value},
        **addresses,
        "MODELYARD_ORG_ID": settings.org_id,
        "MODELYARD_ADMIN_USER": settings.admin_user,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }


def as_shell(facts: Mapping[str, str]) -> str:
    """The published variables that there are, as lines that a shell and most parsers take."""
    return "".join(f"{name}={_quoted(facts[name])}\n" for name in PUBLISHED if name in facts)


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else shlex.quote(value)

"""What compose.yaml needs done once, before anything else starts; each call is idempotent.

python3 -m pipeline.stack.compose keys     makes the keys and gives every service its part
python3 -m pipeline.stack.compose mongo    begins the replica set and creates our user
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import Misconfigured, YardError
from pipeline.settings import Settings
from pipeline.stack.keys import Keys, load_keys, save_keys
from pipeline.stack.mongod import MongodPiece
from pipeline.stack.nats_access import SYSTEM_USER, accounts
from pipeline.stack.state import write_private

ROOT = Path("/var/lib/modelyard")
PRODUCT_UID = 10001
MONGO_UID = 999
"""Of the user `mongodb` in the official image, which is the one that starts mongod there."""

_GIVEN = {
    "MODELYARD_SIGNING_KEY": "signing_key",
    "MODELYARD_ENCRYPTION_KEYS": "encryption_keys",
    "MODELYARD_ADMIN_PASSWORD": "admin_password",
}


def hand_out(root: Path, environ: Mapping[str, str], *, nats_port: int, mongo_port: int) -> None:
    """Below `root`: keys/ for our own services, nats/ for the broker, mongo/ for the store.

    Keys in `environ` replace those made up. Each file can be read by its service's user only; needs
    root when these are others than ours.
    """
    for name in ("keys", "nats", "mongo"):
        (root / name).mkdir(parents=True, exist_ok=True)
    org = environ.get("MODELYARD_ORG_ID") or Settings.model_fields["org_id"].default
    keys = load_keys(root / "keys" / "keys.json", org=org)
    given = {field: environ[name] for name, field in _GIVEN.items() if environ.get(name)}
    keys = keys.model_copy(update=given)
    save_keys(root / "keys" / "keys.json", keys)
    facts = _environment(root, keys, nats_port=nats_port, mongo_port=mongo_port)
    _write(root / "keys" / "env", _as_defaults(facts), PRODUCT_UID)
    _write(root / "nats" / "accounts.conf", _accounts(keys), 0)
    _write(root / "mongo" / "keyfile", keys.mongo_key, MONGO_UID)


async def begin_replica_set(root: Path, *, mongo_port: int) -> None:
    """Against the mongod on our loopback. Raises Misconfigured when it does not become primary."""
    keys_file = root / "keys" / "keys.json"
    if not keys_file.exists():
        raise Misconfigured(f"{keys_file} is missing: run the service `setup` first.")
    keys = Keys.model_validate_json(keys_file.read_text())
    await _mongod(root, keys, mongo_port).settle()


def _environment(root: Path, keys: Keys, *, nats_port: int, mongo_port: int) -> dict[str, str]:
    return {
        "MODELYARD_SIGNING_KEY": keys.signing_key,
        "MODELYARD_ENCRYPTION_KEYS": keys.encryption_keys,
        "MODELYARD_ADMIN_PASSWORD": keys.admin_password,
        "MODELYARD_NATS_URL": f"nats://{SYSTEM_USER}:{keys.nats_password}@127.0.0.1:{nats_port}",
        "MODELYARD_MONGO_URL": _mongod(root, keys, mongo_port).url,
    }


def _as_defaults(facts: Mapping[str, str]) -> str:
    """Lines of shell that set what is not set yet."""
    return "".join(
        f'[ -n "${{{name}:-}}" ] || {name}={shlex.quote(value)}\nexport {name}\n'
        for name, value in facts.items()
    )


def _accounts(keys: Keys) -> str:
    # JSON is valid in a server configuration.
    return "accounts: " + json.dumps(accounts(keys.nats_password, keys.orgs), indent=1) + "\n"


def _mongod(root: Path, keys: Keys, port: int) -> MongodPiece:
    return MongodPiece(root / "mongo", port=port, password=keys.mongo_password, key=keys.mongo_key)


def _write(file: Path, text: str, uid: int) -> None:
    write_private(file, text)
    if os.geteuid() == 0:
        os.chown(file, uid, uid)


def main(arguments: list[str]) -> int:
    """`keys` or `mongo`; the exit code says whether it was done."""
    nats_port = int(os.environ.get("MODELYARD_NATS_PORT") or 4222)
    mongo_port = int(os.environ.get("MODELYARD_MONGO_PORT") or 27017)
    try:
        match arguments:
            case ["keys"]:
                hand_out(ROOT, os.environ, nats_port=nats_port, mongo_port=mongo_port)
            case ["mongo"]:
                asyncio.run(begin_replica_set(ROOT, mongo_port=mongo_port))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except YardError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

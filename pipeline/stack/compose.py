"""What compose.yaml needs done before anything else starts; each call is idempotent.

python3 -m pipeline.stack.compose keys     makes the keys and gives every service its part
python3 -m pipeline.stack.compose mongo    begins the replica set and creates our user
python3 -m pipeline.stack.compose haproxy  becomes the gateway's HAProxy, with what it knew last
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.adapters.registry.tokens import certificates
from pipeline.errors import Misconfigured, YardError
from pipeline.gateway.service import listening_of
from pipeline.settings import Settings
from pipeline.stack.pieces.gateway import lay_out
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import SYSTEM_USER, accounts
from pipeline.stack.state import KEY_SETTINGS, NOT_FOR_NODES, Keys, write_private

ROOT = Path("/var/lib/modelyard")
PRODUCT_UID = 10001
MONGO_UID = 999
"""Of the user `mongodb` in the official image, which is the one that starts mongod there."""


def hand_out(root: Path, environ: Mapping[str, str], *, nats_port: int, mongo_port: int) -> None:
    """Below `root`: keys/ for API and workers, agent/ for the agent, nats/ for the broker, mongo/
    for the store, registry/ for the registry.

    Keys in `environ` replace those made up. Each file can be read by its service's user only; needs
    root when these are others than ours.
    """
    for name in ("keys", "agent", "nats", "mongo", "registry"):
        (root / name).mkdir(parents=True, exist_ok=True)
    org = environ.get("MODELYARD_ORG") or Settings.model_fields["org"].default
    keys = Keys.load(root / "keys" / "keys.json", org=org)
    given = {field: environ[name] for name, field in KEY_SETTINGS.items() if environ.get(name)}
    keys = keys.model_copy(update=given)
    keys.save(root / "keys" / "keys.json")
    facts = keys.settings | {
        "MODELYARD_NATS_URL": f"nats://{SYSTEM_USER}:{keys.nats_password}@127.0.0.1:{nats_port}",
        "MODELYARD_MONGO_URL": _mongod(root, keys, mongo_port).url,
    }
    _write(root / "keys" / "env", _as_defaults(facts), PRODUCT_UID)
    kept = {name: fact for name, fact in facts.items() if name not in NOT_FOR_NODES}
    _write(root / "agent" / "env", _as_defaults(kept), 0)
    _write(root / "registry" / "tokens.pem", certificates(keys.registry_keys), 0)
    # JSON is valid in a server configuration.
    known = json.dumps(accounts(keys.nats_password, keys.orgs), indent=1)
    _write(root / "nats" / "accounts.conf", f"accounts: {known}\n", 0)
    _write(root / "mongo" / "keyfile", keys.mongo_key, MONGO_UID)


async def begin_replica_set(root: Path, *, mongo_port: int) -> None:
    """Against the mongod on our loopback. Raises Misconfigured when it does not become primary."""
    keys_file = root / "keys" / "keys.json"
    if not keys_file.exists():
        raise Misconfigured(f"{keys_file} is missing: run the service `setup` first.")
    keys = Keys.model_validate_json(keys_file.read_text())
    await _mongod(root, keys, mongo_port).after_start()


def become_haproxy(settings: Settings) -> NoReturn:
    """Raises Misconfigured where it is not installed, or cannot read the signing key."""
    haproxy = Haproxy(settings.gateway_folder)
    lay_out(haproxy, listening_of(haproxy, settings))
    program, *arguments = haproxy.command()
    os.execv(program, [program, *arguments])


def _as_defaults(facts: Mapping[str, str]) -> str:
    """Lines of shell that set what is not set yet."""
    return "".join(
        f'[ -n "${{{name}:-}}" ] || {name}={shlex.quote(value)}\nexport {name}\n'
        for name, value in facts.items()
    )


def _mongod(root: Path, keys: Keys, port: int) -> MongodPiece:
    return MongodPiece(root / "mongo", port=port, password=keys.mongo_password, key=keys.mongo_key)


def _write(file: Path, text: str, uid: int) -> None:
    write_private(file, text)
    if os.geteuid() == 0:
        os.chown(file, uid, uid)


def main(arguments: list[str]) -> int:
    """`keys`, `mongo` or `haproxy`; the exit code says whether it was done."""
    nats_port = int(os.environ.get("MODELYARD_NATS_PORT") or 4222)
    mongo_port = int(os.environ.get("MODELYARD_MONGO_PORT") or 27017)
    try:
        match arguments:
            case ["keys"]:
                hand_out(ROOT, os.environ, nats_port=nats_port, mongo_port=mongo_port)
            case ["mongo"]:
                asyncio.run(begin_replica_set(ROOT, mongo_port=mongo_port))
            case ["haproxy"]:
                become_haproxy(Settings())
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except YardError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

import json
import os
import subprocess
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.compose import begin_replica_set, hand_out

NASTY = 'it\'s $HOME `id` "quoted" \\ ü'


def given_out(root: Path, **environ: str) -> None:
    hand_out(root, environ, nats_port=4333, mongo_port=27333)


def sourced(root: Path, name: str, **environ: str) -> str:
    """The value of a variable after a shell has read the file of the keys."""
    script = f'. {root}/keys/env; printenv "$0"'
    env = {"PATH": os.environ["PATH"]} | environ
    done = subprocess.run(["sh", "-euc", script, name], env=env, capture_output=True, check=True)
    return done.stdout.decode().removesuffix("\n")


def test_keys_are_made_once(tmp_path: Path) -> None:
    given_out(tmp_path)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    certificates = tmp_path / "registry" / "tokens.pem"
    # Signed anew each time, with a key that stays.
    files.remove(certificates)
    before = {file: file.read_text() for file in files}
    assert {file.name for file in files} == {"keys.json", "env", "accounts.conf", "keyfile"}
    given_out(tmp_path)
    assert {file: file.read_text() for file in files} == before


def test_only_their_owner_can_read_them(tmp_path: Path) -> None:
    given_out(tmp_path)
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or file.stat().st_mode & 0o777 == 0o600


def test_no_service_is_given_the_keys_of_another(tmp_path: Path) -> None:
    given_out(tmp_path)
    keys = json.loads((tmp_path / "keys" / "keys.json").read_text())
    assert keys["mongo_password"] not in (tmp_path / "nats" / "accounts.conf").read_text()
    assert (tmp_path / "mongo" / "keyfile").read_text() == keys["mongo_key"]
    agent = (tmp_path / "agent" / "env").read_text()
    assert keys["encryption_keys"] in agent
    for name in ("signing_key", "registry_keys", "admin_password"):
        assert keys[name] not in agent


def test_the_addresses_hold_the_credentials_and_the_ports(tmp_path: Path) -> None:
    given_out(tmp_path)
    keys = json.loads((tmp_path / "keys" / "keys.json").read_text())
    nats = sourced(tmp_path, "MODELYARD_NATS_URL")
    assert nats == f"nats://modelyard:{keys['nats_password']}@127.0.0.1:4333"
    assert keys["mongo_password"] in sourced(tmp_path, "MODELYARD_MONGO_URL")
    assert ":27333/" in sourced(tmp_path, "MODELYARD_MONGO_URL")


def test_a_key_that_is_given_replaces_the_one_made_up(tmp_path: Path) -> None:
    given_out(tmp_path)
    given_out(tmp_path, MODELYARD_ADMIN_PASSWORD=NASTY, MODELYARD_SIGNING_KEY="")
    assert sourced(tmp_path, "MODELYARD_ADMIN_PASSWORD") == NASTY
    assert len(sourced(tmp_path, "MODELYARD_SIGNING_KEY")) >= 32


def test_what_the_environment_says_wins_over_the_file(tmp_path: Path) -> None:
    given_out(tmp_path)
    url = "nats://elsewhere:4222"
    assert sourced(tmp_path, "MODELYARD_NATS_URL", MODELYARD_NATS_URL=url) == url
    assert sourced(tmp_path, "MODELYARD_NATS_URL", MODELYARD_NATS_URL="") != ""


async def test_the_replica_set_needs_the_keys_first(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="setup"):
        await begin_replica_set(tmp_path, mongo_port=1)

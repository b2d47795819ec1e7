"""The example configuration of a replica set's member, read by the real server."""

from pathlib import Path

import yaml

from pipeline.stack.pieces.mongod import REPLICA_SET, mongod_binary
from tests.support.commands import CHECKOUT, run

CONFIG = CHECKOUT / "deploy" / "mongo" / "mongod.conf"


async def test_mongod_understands_every_line(tmp_path: Path) -> None:
    shown = await run(mongod_binary(), "--config", CONFIG, "--outputConfig", cwd=tmp_path)
    understood = yaml.safe_load(shown)
    for from_the_command_line in ("config", "outputConfig"):
        understood.pop(from_the_command_line)
    assert understood == yaml.safe_load(CONFIG.read_text())


def test_members_authenticate_to_each_other() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert config["security"]["keyFile"]
    assert config["replication"]["replSetName"] == REPLICA_SET

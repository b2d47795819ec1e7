"""The quickstart, run as a reader would: block after block in one shell, on a stack of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import shell_blocks
from tests.support.image_delivery import push
from tests.support.images import busybox_image
from tests.support.sources import ROOT
from tests.support.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path / "state")
    up = yard.run("up", "--detach", "--ports", "auto")
    assert up.returncode == 0, up.stderr
    yield yard
    yard.run("down")


def test_every_example_of_the_quickstart_works(yard: Yard) -> None:
    push(busybox_image(), yard.env["MODELYARD_REGISTRY"], "team/model", "1")
    script = "set -euo pipefail\n" + "\n".join(shell_blocks(ROOT / "docs" / "quickstart.md"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": "/root", "MODELYARD_STATE": str(yard.state.folder)}
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "RUNNING"' in done.stdout
    assert '"kind":"running"' in done.stdout
    assert "not_found" in done.stdout

"""`modelyard demo` as a newcomer runs it, and as somebody who loses patience does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.sources import ROOT

COMMAND = [sys.executable, "-m", "cli.main", "demo"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Without a stack's addresses; temporary folders are the test's own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODELYARD_") and name != "DOCKER_HOST"
    }
    return kept | {"TMPDIR": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "200"}


@pytest.mark.timeout(400)  # the image of the sample model is built when nobody did so before
def test_the_demo_goes_all_the_way_and_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        COMMAND, env=env, cwd=ROOT, capture_output=True, text=True, timeout=390, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RUNNING" in done.stdout
    assert '"label": "python"' in done.stdout
    assert "Everything worked." in done.stdout
    assert left_over(tmp_path) == []


def test_an_interrupted_demo_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    demo = subprocess.Popen(
        COMMAND, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "is ready" in line:
            break
    demo.send_signal(signal.SIGINT)
    said = demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, said
    assert left_over(tmp_path) == []


def left_over(folder: Path) -> list[str]:
    """Processes, mounts and files that name the folder where the demo kept its stack."""
    found = [str(path) for path in folder.glob("modelyard-demo-*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return found + [line for line in listed.stdout.splitlines() if str(folder) in line]


def test_the_temporary_folder_is_the_one_that_is_watched(
    env: dict[str, str], tmp_path: Path
) -> None:
    script = "import tempfile; print(tempfile.gettempdir())"
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path) != tempfile.gettempdir()

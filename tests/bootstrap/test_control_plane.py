"""Each process loads only what it uses: the three of them idle beside the models of a GPU host."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.sources import ROOT

LATER = {"cryptography", "jwt", "grpc"}
"""Loaded with the first secret, token or call."""
FOREIGN = {
    "api.app": {"docker", "pynvml", "faststream"},
    "workers.__main__": {"docker", "pynvml", "fastapi"},
    "workers.agent": {
        "fastapi",
        "argon2",
        "pipeline.bootstrap.control_plane",
        "pipeline.images.ingest.ingest",
    },
}


@pytest.mark.parametrize("process", FOREIGN)
def test_a_process_loads_only_what_it_uses(process: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {process}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pipeline.settings" in loaded
    assert sorted((FOREIGN[process] | LATER) & set(loaded)) == []

"""The `modelyard` command with a state folder of its own, as a person would use it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.state import State
from tests.support.processes import any_free
from tests.support.sources import ROOT

BASE = "nats,mongod,registry,dockerd"


class Yard:
    def __init__(self, folder: Path, **settings: str) -> None:
        self.state = State(folder)
        self._env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MODELYARD_") and name != "DOCKER_HOST"
        }
        self.first_port = any_free(random.Random())
        """Of the API; those of broker, store and registry follow."""
        for offset, name in enumerate(("API", "NATS", "MONGO", "REGISTRY")):
            self._env[f"MODELYARD_{name}_PORT"] = str(self.first_port + offset)
        self._env |= {"MODELYARD_STATE": str(folder), "NO_COLOR": "1", "COLUMNS": "200"} | settings
        self._env["XDG_CONFIG_HOME"] = str(folder)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(arguments),
            env=self._env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """In the foreground, what it says piped to us."""
        return subprocess.Popen(
            self._command(arguments),
            env=self._env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def set(self, name: str, value: str) -> None:
        self._env[name] = value

    @property
    def env(self) -> dict[str, str]:
        """What `.modelyard/env` says, read by a shell."""
        script = f"set -a; . '{self.state.env_file}'; env -0"
        read = subprocess.run(
            ["env", "-i", "sh", "-c", script], capture_output=True, text=True, check=True
        )
        pairs = (line.partition("=") for line in read.stdout.split("\0"))
        return {name: value for name, _, value in pairs if name not in ("", "PWD", "_")}

    @property
    def engine(self) -> DockerdPiece:
        """For the names that the private engine of this stack goes by."""
        return DockerdPiece(self.state.piece("dockerd"))

    def processes(self) -> list[str]:
        """Command lines that name the state folder."""
        return [line for line in _command_lines() if str(self.state.folder) in line]

    def traces(self) -> list[str]:
        """Everything outside its folder that a stack could leave behind."""
        engine = self.engine
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        bridge = Path("/sys/class/net", engine.bridge.name)
        groups = Path("/sys/fs/cgroup").glob(f"*/{engine.cgroup}")
        return [
            *self.processes(),
            *(line for line in rules.stdout.splitlines() if engine.bridge.name in line),
            *(line for line in mounts if str(self.state.folder) in line),
            *(str(path) for path in (bridge, engine.run_folder, *groups) if path.exists()),
        ]

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "cli.main", *arguments]


def _command_lines() -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue

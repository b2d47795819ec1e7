"""A private Docker Engine: used when none answers and we are root."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import Misconfigured
from pipeline.stack import cgroups, probes
from pipeline.stack.bridge import Bridge
from pipeline.stack.piece import Piece, program

# The engine lives in namespaces of its own, under a shell that adopts and reaps orphans. When that
# shell dies, from whatever cause, the kernel ends the engine, its shims and every container, and
# drops their mounts. /run/containerd is covered so that shims leave no sockets on the host.
_NAMESPACES = (
    *("unshare", "--pid", "--mount", "--fork", "--kill-child=KILL", "--mount-proc"),
    *("--propagation", "slave", "--"),
)
_INIT = """
mkdir -p /run/containerd && mount -t tmpfs modelyard /run/containerd || exit 1
trap : TERM INT
"$@" & engine=$!
while kill -0 $engine 2>/dev/null; do wait $engine; code=$?; done
exit $code
"""


class DockerdPiece(Piece):
    """Images and stopped containers stay in the folder; everything else goes with `stop`."""

    name = "dockerd"
    # Containers that ignore SIGTERM are killed with the engine after this long.
    stop_grace_s = 5

    def __init__(self, folder: Path, *, log: Path | None = None) -> None:
        super().__init__(folder, log=log)
        key = hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]
        # Paths of Unix sockets are limited to 107 bytes: a state folder may lie deeper.
        self.run_folder = Path(f"/run/modelyard-{key}")
        self.bridge = Bridge(f"my-{key}", record=self.folder / "subnet")
        self.cgroup = f"modelyard-{key}"

    @property
    def host(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self._socket}"

    def prepare(self) -> None:
        if os.geteuid() != 0:
            raise Misconfigured(
                "No Docker Engine answers, and a private one needs root: "
                "start Docker, set DOCKER_HOST, or run as root."
            )
        self._forget_run()
        self.run_folder.mkdir(mode=0o700)
        self.bridge.create()
        self._config.write_text(json.dumps(self._configuration(), indent=1))

    def command(self) -> Sequence[str]:
        binary = program("dockerd", remedy="run `make setup` (package docker.io).")
        engine = [binary, "--config-file", str(self._config), "--host", self.host]
        return [*_NAMESPACES, "sh", "-c", _INIT, "sh", *engine]

    async def ready(self) -> bool:
        return await answers(self.host)

    async def clean(self) -> None:
        """Also after a crash: everything is found by names that derive from the folder."""
        self._forget_run()
        self.bridge.remove()
        await cgroups.remove(self.cgroup)

    def _configuration(self) -> dict[str, object]:
        return {
            "data-root": str(self.folder / "data"),
            "exec-root": str(self.run_folder / "exec"),
            "pidfile": str(self.run_folder / "pid"),
            "bridge": self.bridge.name,
            # The rules of two engines on one machine undo each other; `Bridge` makes its own.
            "iptables": False,
            "ip6tables": False,
            "ip-masq": False,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self.cgroup}",
            "log-level": "warn",
            "log-driver": "json-file",
            "log-opts": {"max-size": "16m", "max-file": "2"},
        }

    def _forget_run(self) -> None:
        """A pid file or socket of an earlier run would keep the engine from starting."""
        for mount in _mounts_below(self.folder, self.run_folder):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.run_folder, ignore_errors=True)

    @property
    def _socket(self) -> Path:
        return self.run_folder / "docker.sock"

    @property
    def _config(self) -> Path:
        return self.folder / "daemon.json"


async def answers(docker_host: str) -> bool:
    """Does an engine answer at this address (`unix://…` or `tcp://…`)?"""
    scheme, _, rest = docker_host.partition("://")
    if scheme == "unix":
        answer = await probes.get_from_socket(Path(rest), "/_ping")
    else:
        host, _, port = rest.rstrip("/").rpartition(":")
        answer = await probes.get(host, int(port), "/_ping") if port.isdigit() else None
    return answer is not None and answer.status == 200


def _mounts_below(*folders: Path) -> list[str]:
    """Deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [p for p in reversed(points) if any(Path(p).is_relative_to(f) for f in folders)]

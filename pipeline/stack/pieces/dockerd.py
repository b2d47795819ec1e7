"""A private Docker Engine and the bridge of its containers, when none answers and we are root."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import Misconfigured
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import Piece, program

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

CGROUP_TIMEOUT_S = 5
_CGROUPS = Path("/sys/fs/cgroup")
_POOLS = (ipaddress.IPv4Network("172.31.0.0/16"), ipaddress.IPv4Network("10.231.0.0/16"))
_LOCK = Path("/run/modelyard-network.lock")


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
        await _remove_cgroups(self.cgroup)

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
        return await probes.status_on_socket(Path(rest), "/_ping") == 200
    host, _, port = rest.rstrip("/").rpartition(":")
    return port.isdigit() and await probes.status(host, int(port), "/_ping") == 200


def _mounts_below(*folders: Path) -> list[str]:
    """Deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [p for p in reversed(points) if any(Path(p).is_relative_to(f) for f in folders)]


async def _remove_cgroups(name: str) -> None:
    """Removes the group and those inside it, in every hierarchy. Idempotent.

    The kernel keeps them after the processes in them are gone. Waits for processes that are still
    dying; what is in use after that is left alone.
    """

    async def gone() -> bool:
        # Version 1 has one hierarchy per controller, version 2 only one.
        tops = (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}"))
        return all(_removed(top) for top in tops if top.is_dir())

    await probes.until(gone, timeout_s=CGROUP_TIMEOUT_S)


def _removed(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
    return True


class Bridge:
    """Made by us rather than by the engine, so that two engines never fight over `docker0`.

    `record` remembers the subnet, without which the rules cannot be taken back.
    """

    def __init__(self, name: str, *, record: Path) -> None:
        self.name = name
        self._record = record

    def create(self) -> None:
        """Replaces what an earlier run left. Needs root."""
        with _alone():
            self._remove()
            subnet = choose_subnet(self.name, _used())
            self._record.write_text(str(subnet))
            _ip("link", "add", self.name, "type", "bridge")
            _ip("addr", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", self.name)
            _ip("link", "set", self.name, "up")
            for rule in _rules(self.name, subnet):
                _iptables("-I", *rule, check=True)

    def remove(self) -> None:
        """Idempotent; takes back the rules, too."""
        if self._record.exists():
            with _alone():
                self._remove()

    def _remove(self) -> None:
        if Path("/sys/class/net", self.name).exists():
            _ip("link", "del", self.name)
        if self._record.exists():
            for rule in _rules(self.name, ipaddress.IPv4Network(self._record.read_text())):
                while _iptables("-D", *rule, check=False):
                    pass
            self._record.unlink()


def choose_subnet(name: str, used: Sequence[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """A private /24 that overlaps nothing in `used`; the same name tends to get the same one."""
    candidates = [subnet for pool in _POOLS for subnet in pool.subnets(new_prefix=24)]
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(candidates)
    for subnet in candidates[start:] + candidates[:start]:
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise Misconfigured("No private subnet is free for containers: set DOCKER_HOST to an engine.")


def _rules(bridge: str, subnet: ipaddress.IPv4Network) -> list[tuple[str, ...]]:
    """Table, chain and match of each; the comment tells them from everybody else's.

    Containers may call out and are answered. Published ports go through the engine's proxy.
    """
    ours = ("-m", "comment", "--comment", bridge)
    answers = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    outwards = ("-s", f"{subnet}", "!", "-o", bridge)
    return [
        ("nat", "POSTROUTING", *outwards, *ours, "-j", "MASQUERADE"),
        ("filter", "FORWARD", "-i", bridge, *ours, "-j", "ACCEPT"),
        ("filter", "FORWARD", "-o", bridge, *answers, *ours, "-j", "ACCEPT"),
    ]


def _used() -> list[ipaddress.IPv4Network]:
    """Every network that has an address or a route here."""
    routes = [route.get("dst", "default") for route in json.loads(_ip("-j", "-4", "route"))]
    addresses = [
        f"{address['local']}/{address['prefixlen']}"
        for link in json.loads(_ip("-j", "-4", "addr"))
        for address in link.get("addr_info", [])
    ]
    return [
        ipaddress.IPv4Network(text, strict=False)
        for text in routes + addresses
        if text != "default"
    ]


def _ip(*arguments: str) -> str:
    binary = program("ip", remedy="run `make setup` (package iproute2).")
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Misconfigured(
            f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()} "
            "Run as root on a kernel with bridges, or set DOCKER_HOST to an engine."
        )
    return done.stdout


def _iptables(change: str, table: str, chain: str, *match: str, check: bool) -> bool:
    """True when it did what was asked; with `check` a failure is Misconfigured."""
    binary = program("iptables", remedy="run `make setup` (package iptables).")
    command = [binary, "-w", "-t", table, change, chain, *match]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise Misconfigured(
            f"`{' '.join(command)}` failed: {done.stderr.strip()} "
            "Set DOCKER_HOST to an engine that runs elsewhere."
        )
    return done.returncode == 0


@contextmanager
def _alone() -> Iterator[None]:
    """Two stacks that start together must not choose the same subnet."""
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

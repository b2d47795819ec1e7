"""A network bridge for the containers of a private engine, with a subnet that nobody else uses."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import Misconfigured
from pipeline.stack.piece import program

_POOLS = (ipaddress.IPv4Network("172.31.0.0/16"), ipaddress.IPv4Network("10.231.0.0/16"))
_LOCK = Path("/run/modelyard-network.lock")


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
                _iptables(rule.insert, check=True)

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
                while _iptables(rule.delete, check=False):
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


class _Rule:
    """One iptables rule, found again by its exact text."""

    def __init__(self, table: str, chain: str, *match: str) -> None:
        self.insert = ("-t", table, "-I", chain, *match)
        self.delete = ("-t", table, "-D", chain, *match)


def _rules(bridge: str, subnet: ipaddress.IPv4Network) -> list[_Rule]:
    """Containers may call out and are answered. Published ports go through the engine's proxy."""
    mine = ("-m", "comment", "--comment", bridge)
    answers = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    return [
        _Rule(
            "nat", "POSTROUTING", "-s", f"{subnet}", "!", "-o", bridge, *mine, "-j", "MASQUERADE"
        ),
        _Rule("filter", "FORWARD", "-i", bridge, *mine, "-j", "ACCEPT"),
        _Rule("filter", "FORWARD", "-o", bridge, *answers, *mine, "-j", "ACCEPT"),
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


def _iptables(arguments: Sequence[str], *, check: bool) -> bool:
    """True when it did what was asked; with `check` a failure is Misconfigured."""
    binary = program("iptables", remedy="run `make setup` (package iptables).")
    command = [binary, "-w", *arguments]
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

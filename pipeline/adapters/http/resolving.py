"""From the host of a URL to addresses that may be contacted."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import httpx
from cachetools import TTLCache

from pipeline import addresses
from pipeline.adapters.http import faults
from pipeline.addresses import Ip

Resolver = Callable[[str], Awaitable[Sequence[Ip]]]
"""Every address of a name, best first. Raises OSError when there is none."""

JUDGED_S: Final = 10
"""How long a judged name is not resolved again."""
RESOLVER_THREADS: Final = 16


class PlainHttp(Enum):
    """Where plain `http` may go."""

    ANYWHERE = 1
    LOCAL = 2
    """Loopback and private addresses, and hosts that the settings name."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings allow. Hosts are `host` or `host:port`, in lower case."""

    allow_local: bool
    """Loopback and private addresses may be contacted."""
    local_hosts: frozenset[str] = frozenset()
    """Hosts that may be there in any case: the installation's own."""
    local_networks: tuple[addresses.Network, ...] = ()
    """Loopback and private addresses of these may be contacted in any case."""
    setting: str = "MODELYARD_ALLOW_PRIVATE_ADDRESSES"
    """What would allow what is refused."""
    plain_hosts: frozenset[str] = frozenset()
    """Hosts that may be spoken to over plain HTTP wherever they are."""


class _Judged(NamedTuple):
    pinned: tuple[str, ...]
    is_local: bool


class GuardedResolver:
    """Resolves each name once, judges all its addresses, and remembers that for `JUDGED_S`."""

    def __init__(
        self, resolver: Resolver, rules: Rules, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolver = resolver
        self._rules = rules
        self._judged: TTLCache[str, _Judged] = TTLCache(1024, JUDGED_S, clock)

    async def addresses(self, url: httpx.URL, plain: PlainHttp) -> tuple[str, ...]:
        """Where to connect for `url`. Raises AddressRefused, Unreachable (kind dns)."""
        netloc = url.netloc.decode("ascii")
        judged = self._judged.get(netloc)
        if judged is None:
            judged = self._judged[netloc] = await self._judge(url, netloc)
        is_fine = url.scheme == "https" or plain is PlainHttp.ANYWHERE or judged.is_local
        if not is_fine and not _names(self._rules.plain_hosts, url, netloc):
            raise addresses.refusal(
                url.host, "plain HTTP is for loopback and private addresses only: use https"
            )
        return judged.pinned

    async def _judge(self, url: httpx.URL, netloc: str) -> _Judged:
        found = await self._find(url)
        rules = self._rules
        allow_local = rules.allow_local or _names(rules.local_hosts, url, netloc)
        if not allow_local and rules.local_networks:
            allow_local = all(addresses.within(ip, rules.local_networks) for ip in found)
        addresses.check(url.host, found, allow_local=allow_local, setting=rules.setting)
        return _Judged(tuple(map(str, found)), addresses.are_local(found))

    async def _find(self, url: httpx.URL) -> Sequence[Ip]:
        host = url.raw_host.decode("ascii")
        spelled = addresses.literal(host)
        if spelled is not None:
            return [spelled]
        try:
            found = await self._resolver(host)
        except (OSError, UnicodeError) as error:
            raise faults.unavailable(url, "dns") from error
        if not found:
            raise faults.unavailable(url, "dns")
        return found


class SystemResolver:
    """The system's own, in threads of its own: a slow name server holds up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def __call__(self, host: str) -> list[Ip]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return [ipaddress.ip_address(address[0]) for *_, address in found]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_this_machine(address: str) -> bool:
    """Whether it is one of ours: then the kernel would send to it from that very address."""
    ip = ipaddress.ip_address(address)
    if ip.is_loopback or ip.is_unspecified:
        return True
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            # Sends nothing.
            asked.connect((address, 9))
        except OSError:
            return False
        return ipaddress.ip_address(asked.getsockname()[0]) == ip


def _names(hosts: frozenset[str], url: httpx.URL, netloc: str) -> bool:
    return netloc in hosts or url.host in hosts

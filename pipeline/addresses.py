"""Which network addresses may be contacted on behalf of a user. Pure: resolving happens elsewhere.

Special-purpose ranges: the IANA registries for IPv4 and IPv6.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeAlias

from pipeline.errors import AddressRefused

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Networks: TypeAlias = tuple[Network, ...]


class Reach(StrEnum):
    PUBLIC = "public"
    LOCAL = "local"
    """Loopback, private, or carrier-grade NAT: only when a setting allows it."""
    REFUSED = "refused"


def _networks(*texts: str) -> _Networks:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Metadata services that live inside ranges which are otherwise private or public.
_METADATA = _networks(
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::/32",  # AWS, the whole range of its services
    "fd20:ce::254/128",  # Google
    "fd00:42::42/128",  # Scaleway
)
_LOCAL = _networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
)
_REFUSED = (
    ("link-local", _networks("169.254.0.0/16", "fe80::/10")),
    ("unspecified", _networks("0.0.0.0/8", "::/128")),
    ("multicast", _networks("224.0.0.0/4", "ff00::/8")),
    # An IPv4 address in IPv6 clothes: whatever it leads to, it has a plain spelling.
    (
        "IPv4-in-IPv6",
        _networks("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96")
        + _networks("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"),
    ),
    (
        "reserved",
        _networks("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15")
        + _networks("198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
    ),
    ("reserved", _networks("2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "100::/64")),
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def reach(ip: Ip) -> Reach:
    """How far away an address is, or that nobody may contact it."""
    return _judge(ip)[0]


def literal(host: str) -> Ip | None:
    """The address that `host` spells out, or None when it is a name to resolve.

    Raises AddressRefused for spellings that resolvers read as addresses although they do not look
    like one: integers, hexadecimal, octal, fewer than four parts.
    """
    bare = host.removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    # The WHATWG rule: a host whose last label is a number is an IPv4 address, or nothing.
    if _NUMBER.fullmatch(bare.rpartition(".")[2]):
        raise refusal(host, "it spells an address in an unusual way: write it as a.b.c.d")
    return None


def check(
    host: str,
    found: Sequence[Ip],
    *,
    allow_local: bool,
    setting: str = "MODELYARD_ALLOW_PRIVATE_ADDRESSES",
) -> None:
    """Raises AddressRefused unless every one of the addresses of `host` may be contacted.

    All of them: a name that also points inside is refused, whatever comes first. The address
    itself is not told: it may be known to an inner name server only.
    """
    for ip in found:
        kind, why = _judge(ip)
        if kind is Reach.REFUSED:
            raise refusal(host, f"it leads to {why} addresses")
        if kind is Reach.LOCAL and not allow_local:
            raise refusal(host, f"it leads to {why} addresses; {setting} allows them")


def are_local(found: Iterable[Ip]) -> bool:
    """True when every address is loopback, private or carrier-grade NAT."""
    return all(reach(ip) is Reach.LOCAL for ip in found)


def refusal(host: str, why: str) -> AddressRefused:
    return AddressRefused(f"{host} is not contacted: {why}.", kind="blocked", host=host)


def _judge(ip: Ip) -> tuple[Reach, str]:
    if within(ip, _METADATA):
        return Reach.REFUSED, "cloud metadata"
    if within(ip, _LOCAL):
        return Reach.LOCAL, "loopback or private"
    for why, networks in _REFUSED:
        if within(ip, networks):
            return Reach.REFUSED, why
    if ip.version == 6 and ip not in _GLOBAL_V6:
        return Reach.REFUSED, "reserved"
    return Reach.PUBLIC, "public"


def within(ip: Ip, networks: _Networks) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)

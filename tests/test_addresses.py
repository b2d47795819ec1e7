"""Which addresses may be contacted for a user."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import addresses
from pipeline.addresses import Reach
from pipeline.errors import AddressRefused

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "255.255.255.255",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:1::1",
    "2001:db8::1",
    "fec0::1",
    "100::1",
    "4000::1",
]
LOCAL = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd12:3456::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"]


@pytest.mark.parametrize("text", NEVER)
def test_it_is_refused_whatever_the_setting(text: str) -> None:
    assert addresses.reach(ip_address(text)) is Reach.REFUSED
    with pytest.raises(AddressRefused) as caught:
        addresses.check("h.example", [ip_address(text)], allow_local=True)
    assert caught.value.facts["kind"] == "blocked"


@pytest.mark.parametrize("text", LOCAL)
def test_private_and_loopback_need_the_setting(text: str) -> None:
    ip = ip_address(text)
    assert addresses.reach(ip) is Reach.LOCAL
    addresses.check("h.example", [ip], allow_local=True)
    with pytest.raises(AddressRefused, match="MODELYARD_ALLOW_PRIVATE_ADDRESSES"):
        addresses.check("h.example", [ip], allow_local=False)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_fine(text: str) -> None:
    assert addresses.reach(ip_address(text)) is Reach.PUBLIC
    addresses.check("h.example", [ip_address(text)], allow_local=False)


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    found = [ip_address("8.8.8.8"), ip_address("169.254.169.254")]
    with pytest.raises(AddressRefused):
        addresses.check("h.example", found, allow_local=True)


def test_the_refusal_does_not_tell_the_address() -> None:
    with pytest.raises(AddressRefused) as caught:
        addresses.check("inner.example", [ip_address("10.11.12.13")], allow_local=False)
    assert "10.11.12.13" not in caught.value.message


def test_local_means_all_of_them() -> None:
    here, there = ip_address("127.0.0.1"), ip_address("8.8.8.8")
    assert addresses.are_local([here])
    assert not addresses.are_local([here, there])


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7F.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "127.0.0.256",
        "1.2.3.4.5",
        "0",
        "0x",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "0251.0376.0251.0376",
        "foo.0x7f",
        "2130706433.",
    ],
)
def test_odd_spellings_of_addresses_are_refused(host: str) -> None:
    with pytest.raises(AddressRefused, match=r"write it as a\.b\.c\.d"):
        addresses.literal(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", IPv4Address("127.0.0.1")),
        ("127.0.0.1.", IPv4Address("127.0.0.1")),
        ("[::1]", IPv6Address("::1")),
        ("::1", IPv6Address("::1")),
        ("localhost", None),
        ("registry.example", None),
        ("1password.example", None),
        ("10.example", None),
        ("0xyz", None),
        ("", None),
    ],
)
def test_addresses_are_told_from_names(host: str, expected: object) -> None:
    assert addresses.literal(host) == expected


@given(st.integers(0, 2**32 - 1))
def test_an_integer_is_never_taken_for_a_name(number: int) -> None:
    for spelling in (str(number), hex(number), f"0{number:o}"):
        with pytest.raises(AddressRefused):
            addresses.literal(spelling)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_ipv4_address_gets_through_in_ipv6_clothes(ip: IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "::", "64:ff9b::"):
        dressed = IPv6Address(int(IPv6Address(prefix)) | int(ip))
        if dressed != IPv6Address("::1"):
            assert addresses.reach(dressed) is Reach.REFUSED


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_python_agrees_about_what_is_public(ip: IPv4Address | IPv6Address) -> None:
    if addresses.reach(ip) is Reach.PUBLIC:
        assert ip.is_global
        assert not ip.is_multicast
        assert not ip.is_reserved

from ipaddress import IPv4Network

import pytest

from pipeline.errors import Misconfigured
from pipeline.stack.pieces.dockerd import choose_subnet


def test_a_bridge_tends_to_get_the_same_subnet_and_others_get_another() -> None:
    assert choose_subnet("my-1", []) == choose_subnet("my-1", [])
    assert choose_subnet("my-1", []) != choose_subnet("my-2", [])


def test_a_subnet_that_overlaps_a_used_network_is_passed_over() -> None:
    first = choose_subnet("my-1", [])
    second = choose_subnet("my-1", [IPv4Network((int(first.network_address) + 9, 32))])
    assert not second.overlaps(first)


def test_a_whole_pool_in_use_leads_to_the_other_pool() -> None:
    chosen = choose_subnet("my-1", [IPv4Network("172.16.0.0/12")])
    assert chosen.subnet_of(IPv4Network("10.231.0.0/16"))


def test_without_a_free_subnet_the_remedy_is_an_engine_that_is_there() -> None:
    with pytest.raises(Misconfigured, match="DOCKER_HOST"):
        choose_subnet("my-1", [IPv4Network("0.0.0.0/0")])

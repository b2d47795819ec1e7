"""What HAProxy is told: the file, and the commands between two states of a backend."""

from __future__ import annotations

import pytest

from pipeline.errors import Misconfigured
from pipeline.gateway.routing import (
    Backend,
    Listening,
    Server,
    commands,
    configuration,
    ids_of,
    revocations,
    sections_of,
    servers_of,
)

ONE, TWO = Server("10.0.0.1", 8001), Server("fd00::2", 8002)
LISTENING = Listening("127.0.0.1:8088", "/run/x/admin.sock", "/run/x/revoked", "k" * 32)

STATES = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_port
4 d_clf-0a1b2c3d 1 r1 10.0.0.1 2 0 1 8001
4 d_clf-0a1b2c3d 2 r2 fd00::2 2 8 1 8002
5 other 1 x 10.0.0.9 2 0 1 1

"""


def test_the_file_names_each_deployment_with_its_organisation_and_servers() -> None:
    backends = {"clf-0a1b2c3d": Backend("clf-0a1b2c3d", "acme", {"r1": ONE, "r2": TWO})}
    text = configuration(LISTENING, backends)
    assert "backend d_clf-0a1b2c3d\n" in text
    assert "-m str acme" in text
    assert "    server r1 10.0.0.1:8001\n    server r2 [fd00::2]:8002\n" in text


def test_what_deployments_add_comes_after_what_is_always_there() -> None:
    """Which is how a start tells whether the file is one of the same listener."""
    empty = configuration(LISTENING, {})
    assert configuration(LISTENING, {"a": Backend("a", "acme")}).startswith(empty)


@pytest.mark.parametrize("key", ["", "k" * 31, "k" * 32 + '"', "k" * 32 + "\n", "k" * 32 + ","])
def test_a_key_that_could_leave_its_place_in_the_file_is_refused(key: str) -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_SIGNING_KEY"):
        configuration(Listening("127.0.0.1:1", "/x", "/y", key), {})


def test_the_key_is_not_shown() -> None:
    assert "kkk" not in repr(LISTENING)


def test_servers_are_added_drained_and_deleted() -> None:
    draining = Server(ONE.host, ONE.port, draining=True)
    assert list(commands({}, {"r1": ONE}, "a")) == [
        "add server d_a/r1 10.0.0.1:8001",
        "enable server d_a/r1",
    ]
    assert list(commands({"r1": ONE}, {"r1": draining}, "a")) == ["set server d_a/r1 state drain"]
    assert list(commands({"r1": draining}, {"r1": ONE}, "a")) == ["set server d_a/r1 state ready"]
    assert list(commands({"r1": ONE}, {}, "a")) == [
        "set server d_a/r1 state maint",
        "del server d_a/r1",
    ]
    assert list(commands({"r1": ONE}, {"r1": ONE}, "a")) == []


def test_what_is_revoked_is_added_and_what_need_not_be_known_any_more_deleted() -> None:
    assert ids_of("0x55d0 a\n0x55d8 b\n\n") == {"a", "b"}
    assert list(revocations({"a", "b"}, {"b", "c"}, "/f")) == ["add acl /f c", "del acl /f a"]


def test_the_answers_of_haproxy_are_read() -> None:
    assert servers_of(STATES) == {
        "clf-0a1b2c3d": {"r1": ONE, "r2": Server("fd00::2", 8002, draining=True)}
    }
    assert sections_of("# name\ncalls\nd_one\nl_one\nd_two\n") == {"d_one", "l_one", "d_two"}


def test_a_server_in_another_place_has_another_name() -> None:
    assert ONE.name(1) == "r1-10-0-0-1-8001"
    assert len({ONE.name(1), ONE.name(2), TWO.name(1)}) == 3

"""What an engine says, and what it is told."""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.engine import shapes
from pipeline.adapters.engine.shapes import LogDecoder
from pipeline.ports import Credentials, LaunchOptions, LaunchPlan, LogLine
from schemas.container import PortBinding

PORT = PortBinding(internal=8080, host=18080, address="127.0.0.1")
STAMP = "2024-02-29T12:00:00.123456789Z"
STAMP_NS = 1_709_208_000_123_456_789


def inspected(**state: Any) -> dict[str, Any]:
    """As GET /containers/{id}/json answers, cut to what is read."""
    return {
        "Id": "ab12",
        "Name": "/my-1",
        "Image": "sha256:cd34",
        "State": {
            "Status": "running",
            "OOMKilled": False,
            "Error": "",
            "ExitCode": 0,
            "StartedAt": "2024-02-29T12:00:00.5Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        }
        | state,
        "Config": {"Labels": {"modelyard.container": "1"}},
        "HostConfig": {"PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}]}},
        "NetworkSettings": {"Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]}},
    }


def test_a_plan_becomes_the_body_of_a_creation() -> None:
    plan = LaunchPlan(
        name="my-1",
        image="r/m@sha256:00",
        command=("serve", "--fast"),
        env={"A": "b=c d"},
        labels={"modelyard.container": "1"},
        ports=[PORT],
        memory_bytes=1 << 30,
        cpus=1.5,
        gpu_devices=("GPU-1", "GPU-2"),
    )
    body = shapes.creation(plan)
    host = body.pop("HostConfig")
    assert body == {
        "Image": "r/m@sha256:00",
        "Cmd": ["serve", "--fast"],
        "Env": ["A=b=c d"],
        "Labels": {"modelyard.container": "1"},
        "ExposedPorts": {"8080/tcp": {}},
    }
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]}
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (
        1 << 30,
        1 << 30,
        1_500_000_000,
    )
    assert host["DeviceRequests"] == [
        {"Driver": "", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}
    ]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


def test_a_plan_without_gpus_asks_for_no_device() -> None:
    assert shapes.creation(LaunchPlan(name="a", image="b"))["HostConfig"]["DeviceRequests"] == []


def test_an_empty_command_leaves_the_one_of_the_image() -> None:
    assert shapes.creation(LaunchPlan(name="a", image="b"))["Cmd"] is None


def test_a_running_container_has_its_actual_ports_and_no_exit_code() -> None:
    found = shapes.container(inspected())
    assert found.ports == (PORT,)
    assert found.name == "my-1"
    assert found.exit_code is None
    assert found.health == "none"
    assert found.started_at == datetime(2024, 2, 29, 12, 0, 0, 500_000, tzinfo=UTC)
    assert found.finished_at is None


def test_a_created_container_has_the_ports_that_it_was_given() -> None:
    created = inspected(Status="created")
    created["NetworkSettings"] = {"Ports": {}}
    assert [port.host for port in shapes.container(created).ports] == [1]


def test_a_port_that_is_not_published_is_left_out() -> None:
    found = inspected()
    found["NetworkSettings"]["Ports"] = {"8080/tcp": None}
    assert shapes.container(found).ports == ()


def test_an_ended_container_says_how() -> None:
    found = shapes.container(inspected(Status="exited", ExitCode=137, OOMKilled=True))
    assert (found.exit_code, found.oom_killed, found.running) == (137, True, False)


def test_health_is_read() -> None:
    assert shapes.container(inspected(Health={"Status": "unhealthy"})).health == "unhealthy"


def test_an_event_tells_action_health_and_labels_apart() -> None:
    found = shapes.event(
        {
            "Action": "health_status: unhealthy",
            "Actor": {
                "ID": "ab12",
                "Attributes": {"image": "r/m", "name": "my-1", "modelyard.container": "1"},
            },
            "time": 1_709_208_000,
            "timeNano": 1_709_208_000_123_456_789,
        }
    )
    assert (found.action, found.health, found.name) == ("health_status", "unhealthy", "my-1")
    assert found.labels == {"modelyard.container": "1"}
    assert found.exit_code is None
    assert found.time_ns == 1_709_208_000_123_456_789


def test_an_end_has_its_exit_code() -> None:
    actor = {"ID": "ab12", "Attributes": {"name": "my-1", "exitCode": "137"}}
    assert shapes.event({"Action": "die", "Actor": actor, "timeNano": 1}).exit_code == 137


def test_architectures_are_named_as_images_name_them() -> None:
    system = {"NCPU": 2, "MemTotal": 1024, "Architecture": "aarch64"}
    found = shapes.info(system, {"Version": "20.10", "ApiVersion": "1.41", "Os": "linux"})
    assert str(found.platform) == "linux/arm64"


@pytest.mark.parametrize(
    ("reference", "parts", "pulled"),
    [
        ("busybox", ("busybox", "latest"), "busybox:latest"),
        ("busybox:1", ("busybox", "1"), "busybox:1"),
        ("r:5000/team/m", ("r:5000/team/m", "latest"), "r:5000/team/m:latest"),
        ("r:5000/team/m:1", ("r:5000/team/m", "1"), "r:5000/team/m:1"),
        ("r:5000/m@sha256:00", ("r:5000/m", "sha256:00"), "r:5000/m@sha256:00"),
        ("r:5000/m:1@sha256:00", ("r:5000/m", "sha256:00"), "r:5000/m@sha256:00"),
    ],
)
def test_a_digest_wins_over_a_tag(reference: str, parts: tuple[str, str], pulled: str) -> None:
    assert shapes.split_reference(reference) == parts
    assert shapes.pulled_name(reference) == pulled


def test_credentials_travel_in_their_header_only() -> None:
    header = shapes.registry_auth(Credentials("r:5000", "me", "secret"))["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header)) == {
        "username": "me",
        "password": "secret",
        "serveraddress": "r:5000",
    }
    assert base64.urlsafe_b64decode(shapes.registry_auth(None)["X-Registry-Auth"]) == b"{}"


def test_output_is_asked_for_from_an_exact_moment() -> None:
    since = datetime(2024, 2, 29, 12, 0, 0, 7, tzinfo=UTC)
    params = shapes.log_params(tail=0, since=since, follow=True)
    assert (params["tail"], params["since"], params["follow"]) == ("0", "1709208000.000007000", "1")
    assert "since" not in shapes.log_params(tail=None, since=None, follow=False)


def test_what_is_chosen_of_the_set_up_reaches_the_engine_and_nothing_else() -> None:
    options = LaunchOptions(
        entrypoint=("serve",),
        working_dir="/work",
        user="1000",
        shm_bytes=1 << 30,
        ulimits={"memlock": (-1, -1)},
        ipc="shareable",
        tmpfs={"/tmp": 65536},
        read_only=True,
        extra_hosts={"db": "10.0.0.1"},
        stop_signal="SIGINT",
        stop_grace_s=0,
    )
    body = shapes.creation(LaunchPlan(name="n", image="i", options=options))
    host = body["HostConfig"]
    chosen = ("Entrypoint", "WorkingDir", "User", "StopSignal", "StopTimeout")
    assert [body[name] for name in chosen] == [["serve"], "/work", "1000", "SIGINT", 0]
    assert (host["ShmSize"], host["IpcMode"]) == (1 << 30, "shareable")
    assert host["ReadonlyRootfs"] is True
    assert host["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    assert (host["Tmpfs"], host["ExtraHosts"]) == ({"/tmp": "size=65536"}, ["db:10.0.0.1"])
    plain = shapes.creation(LaunchPlan(name="n", image="i"))
    assert not plain.keys() & set(chosen)
    assert plain["HostConfig"]["IpcMode"] == "private"
    assert not plain["HostConfig"].keys() & {"ShmSize", "Ulimits", "Tmpfs", "ReadonlyRootfs"}


def frame(stream: int, text: bytes, stamp: str = STAMP) -> bytes:
    body = stamp.encode() + b" " + text
    return struct.pack(">BxxxL", stream, len(body)) + body


def decode(content: bytes, piece_bytes: int) -> list[LogLine]:
    decoder = LogDecoder()
    pieces = [content[i : i + piece_bytes] for i in range(0, len(content), piece_bytes)]
    lines = [line for piece in pieces for line in decoder.feed(piece)]
    return lines + list(decoder.finish())


@given(piece_bytes=st.integers(min_value=1, max_value=200))
def test_frames_are_found_in_any_cut(piece_bytes: int) -> None:
    lines = decode(frame(1, b"one\n") + frame(2, b"two\n") + frame(1, b"\n"), piece_bytes)
    assert [(line.stream, line.text) for line in lines] == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("stdout", "\n"),
    ]
    assert {line.time_ns for line in lines} == {STAMP_NS}


@given(piece_bytes=st.integers(min_value=1, max_value=200))
def test_a_terminal_has_no_frames(piece_bytes: int) -> None:
    content = f"{STAMP} one\r\n{STAMP} two words\r\n{STAMP} rest".encode()
    lines = decode(content, piece_bytes)
    assert [line.text for line in lines] == ["one\r\n", "two words\r\n", "rest"]
    assert {line.stream for line in lines} == {"stdout"}


def test_a_letter_that_is_cut_in_two_is_whole_again() -> None:
    first, second = "ä".encode()[:1], "ä".encode()[1:]
    content = frame(1, b"x" + first) + frame(2, b"\xff\n") + frame(1, second + b"\n")
    assert [line.text for line in decode(content, 64)] == ["x", "\ufffd\n", "ä\n"]


@pytest.mark.parametrize("text", [b"", b"no stamp here\n"])
def test_output_without_a_time_has_the_time_before_it(text: bytes) -> None:
    bare = struct.pack(">BxxxL", 1, len(text)) + text
    lines = decode(frame(1, b"one\n") + bare, 64)
    assert lines[1].text == text.decode()
    assert lines[1].time_ns == STAMP_NS


def test_a_terminal_that_never_ends_its_line_does_not_fill_the_memory() -> None:
    decoder = LogDecoder()
    held = [line for _ in range(40) for line in decoder.feed(STAMP.encode() + b" " * 16_384)]
    assert sum(len(line.text) for line in held) > 500_000


def test_an_empty_output_has_no_lines() -> None:
    assert decode(b"", 1) == []


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T02:00:00.123456789+02:00", 123_456_789),
        ("2024-02-29T12:00:00.25Z", 1_709_208_000_250_000_000),
    ],
)
def test_every_digit_of_a_time_is_kept(text: str, time_ns: int) -> None:
    assert shapes.parse_ns(text) == time_ns


@pytest.mark.parametrize("text", ["", "hello", "2024-02-29", "2024-02-29T12:00:00", "1709208000"])
def test_other_words_are_no_time(text: str) -> None:
    assert shapes.parse_ns(text) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", None])
def test_no_moment_is_none(text: str | None) -> None:
    assert shapes.parse_moment(text) is None


def test_a_moment_is_utc_in_microseconds() -> None:
    moment = shapes.parse_moment("2024-02-29T12:00:00.123456789Z")
    assert moment == datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_moment_is_written_without_rounding() -> None:
    assert shapes.written(datetime(2024, 2, 29, 12, 0, 0, 7, tzinfo=UTC)) == "1709208000.000007000"


@pytest.mark.parametrize("found", [{}, {"read": "0001-01-01T00:00:00Z", "memory_stats": {}}])
def test_what_does_not_run_uses_nothing(found: dict[str, Any]) -> None:
    assert shapes.use(found) is None

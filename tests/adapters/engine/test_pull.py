from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.engine.pull import LayerProgress, Pull, pull_error
from pipeline.adapters.engine.shapes import JsonLines
from pipeline.errors import (
    DiskFull,
    EngineUnavailable,
    PullDenied,
    PullFailed,
    PullImpossible,
    YardError,
)
from pipeline.ports import Credentials

REFERENCE = "registry.example:5000/team/model:1"


def line(status: str, id: str = "a", current: int = 0, total: int = 0) -> dict[str, Any]:
    detail = {"current": current, "total": total} if total or current else {}
    return {"status": status, "id": id, "progressDetail": detail}


def layers(*lines: dict[str, Any]) -> LayerProgress:
    found = LayerProgress()
    for one in lines:
        found.note(one)
    return found


def test_bytes_are_summed_over_the_layers() -> None:
    found = layers(
        line("Pulling fs layer", "a"),
        line("Pulling fs layer", "b"),
        line("Downloading", "a", 10, 100),
        line("Downloading", "b", 5, 50),
    )
    assert (found.done, found.total) == (15, 150)


def test_the_total_is_unknown_until_every_layer_has_told_its_size() -> None:
    found = layers(line("Pulling fs layer", "a"), line("Waiting", "b"))
    found.note(line("Downloading", "a", 10, 100))
    assert found.total is None
    found.note(line("Downloading", "b", 0, 50))
    assert found.total == 150


def test_a_layer_that_was_there_counts_as_nothing() -> None:
    found = layers(line("Already exists", "a"), line("Downloading", "b", 50, 50))
    assert (found.done, found.total) == (50, 50)


def test_a_finished_download_is_done_whole() -> None:
    found = layers(line("Downloading", "a", 10, 100), line("Download complete", "a"))
    assert (found.done, found.total) == (100, 100)


def test_a_layer_too_small_to_be_seen_downloading_counts_when_it_is_unpacked() -> None:
    found = layers(
        line("Pulling fs layer"), line("Download complete"), line("Extracting", "a", 32, 90)
    )
    assert (found.done, found.total) == (90, 90)


def test_a_layer_fetched_again_does_not_take_bytes_back() -> None:
    found = layers(line("Downloading", "a", 80, 100), line("Retrying in 1 second", "a"))
    found.note(line("Downloading", "a", 5, 100))
    assert found.done == 80


def test_lines_about_no_layer_change_nothing() -> None:
    found = layers(
        {"status": "Pulling from team/model", "id": "1"},
        {"status": "Digest: sha256:00"},
        {"status": "Status: Downloaded newer image"},
    )
    assert (found.done, found.total) == (0, None)


STATUSES = ["Pulling fs layer", "Waiting", "Downloading", "Download complete", "Extracting"]


@given(
    st.lists(
        st.builds(
            line,
            st.sampled_from([*STATUSES, "Pull complete", "Retrying in 3 seconds"]),
            st.sampled_from("abc"),
            st.integers(0, 100),
            st.just(100),
        )
    )
)
def test_progress_never_falls_and_never_passes_its_total(lines: list[dict[str, Any]]) -> None:
    found, before = LayerProgress(), 0
    for one in lines:
        found.note(one)
        assert found.done >= before
        assert found.total is None or found.done <= found.total
        before = found.done


def test_a_pull_is_queued_only_while_all_its_layers_wait() -> None:
    found = layers(line("Already exists", "a"), line("Waiting", "b"))
    assert found.is_queued
    found.note(line("Downloading", "b", 1, 9))
    assert not found.is_queued
    assert not LayerProgress().is_queued


@given(st.integers(min_value=1, max_value=80))
def test_json_lines_are_found_in_any_cut(piece_bytes: int) -> None:
    values = [{"status": "ä"}, {"id": "b", "n": 1}, {}]
    content = b"".join(json.dumps(v, ensure_ascii=False).encode() + b"\r\n" for v in values)
    lines = JsonLines()
    pieces = [content[i : i + piece_bytes] for i in range(0, len(content), piece_bytes)]
    assert [value for piece in pieces for value in lines.feed(piece)] == values


def test_an_error_in_the_stream_ends_the_pull() -> None:
    pull = Pull(REFERENCE, None)
    said = {"errorDetail": {"message": "unexpected EOF"}, "error": "unexpected EOF"}
    with pytest.raises(PullFailed, match="unexpected EOF") as caught:
        pull.feed(json.dumps(said).encode() + b"\r\n")
    assert caught.value.facts["reason"] == "failed"


@pytest.mark.parametrize(
    ("status", "message", "kind", "reason"),
    [
        (
            404,
            "pull access denied for team/model, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied",
            PullDenied,
            "denied",
        ),
        (500, "Head https://r/v2/x: unauthorized: authentication required", PullDenied, "denied"),
        (500, "Get https://r/v2/x: no basic auth credentials", PullDenied, "denied"),
        (404, f"manifest for {REFERENCE} not found: manifest unknown", PullImpossible, "not_found"),
        (
            404,
            "no matching manifest for linux/arm64 in the manifest list entries",
            PullImpossible,
            "platform",
        ),
        (400, "invalid reference format", PullImpossible, "invalid"),
        (500, "dial tcp 127.0.0.1:5000: connect: connection refused", PullFailed, "failed"),
        (0, "filesystem layer verification failed for digest sha256:00", PullFailed, "failed"),
    ],
)
def test_a_failed_pull_says_why(
    status: int, message: str, kind: type[YardError], reason: str
) -> None:
    error = pull_error(status, message, REFERENCE, None)
    assert type(error) is kind
    assert error.facts["reason"] == reason


def test_a_full_disk_is_told_from_a_failed_pull() -> None:
    said = "failed to register layer: write /x: no space left on device"
    assert isinstance(pull_error(0, said, REFERENCE, None), DiskFull)


def test_an_engine_that_is_not_ready_is_told_from_a_failed_pull() -> None:
    assert isinstance(pull_error(503, "starting", REFERENCE, None), EngineUnavailable)


def test_the_name_of_an_image_does_not_decide_what_went_wrong() -> None:
    error = pull_error(500, "reading r/denied/unauthorized: EOF", "r/denied/unauthorized:1", None)
    assert type(error) is PullFailed


def test_a_password_is_in_no_message() -> None:
    credentials = Credentials("r", "me", "hunter2")
    error = pull_error(500, "login me:hunter2 was refused", REFERENCE, credentials)
    assert "hunter2" not in f"{error} {error.facts}"

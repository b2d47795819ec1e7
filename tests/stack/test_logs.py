import asyncio
from pathlib import Path

import pytest

from pipeline.stack import logs
from pipeline.stack.piece import last_words


def test_a_log_that_grew_too_long_is_moved_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        logs.cap(log, 50)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "nats.log.1").read_bytes() == b"x" * 100


def test_a_short_log_stays(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("short")
    logs.cap(log, 50)
    assert log.read_text() == "short"
    assert not (tmp_path / "nats.log.1").exists()


async def test_all_logs_of_a_folder_are_kept_small_until_cancelled(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("x" * 100)
    keeper = asyncio.create_task(logs.keep_small(tmp_path, max_bytes=50))
    await asyncio.sleep(0)
    assert log.read_text() == ""
    keeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeper


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("starting\n[FTL] cannot open store\nbye\n", "[FTL] cannot open store"),
        ("panic: bad config\n\tmain.go:22\n", "panic: bad config"),
        ("one\ntwo\n", "two"),
    ],
)
def test_the_last_words_tell_why_a_program_ended(tmp_path: Path, text: str, words: str) -> None:
    log = tmp_path / "x.log"
    log.write_text(text)
    assert last_words(log) == words


def test_a_program_that_wrote_nothing_has_no_last_words(tmp_path: Path) -> None:
    assert last_words(tmp_path / "absent.log") == ""

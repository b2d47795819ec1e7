"""What is asked for before the first byte of an archive."""

from __future__ import annotations

import pytest

from pipeline.core import archive_requests
from pipeline.core.ingested import Wish
from pipeline.errors import InvalidInput, KeyReused
from schemas.image import ImageSource
from tests.support.records import image


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish(name=""), "name"),
        (Wish(name="a\0"), "name"),
        (Wish(name="x" * 256), "name"),
        (Wish(repo_tag="a\0"), "repoTag"),
        (Wish(platform="a/b/c/d"), "platform"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(wish: Wish, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        archive_requests.require_sound(wish)
    assert refused.value.facts["field"] == field


def test_it_is_called_by_its_name_then_its_tag_then_its_file() -> None:
    wish = Wish(name="n", repo_tag="r", filename="f")
    assert archive_requests.require_sound(wish) == "n"
    assert archive_requests.require_sound(Wish(repo_tag="r", filename="f")) == "r"
    assert archive_requests.require_sound(Wish(filename="f\0")) == "f"
    assert archive_requests.require_sound(Wish()) == "upload"


def test_only_the_same_request_is_a_repeat() -> None:
    def prints(wish: Wish, length: int | None) -> str:
        return archive_requests.fingerprint(wish, ImageSource.ARCHIVE, length)

    first = image(request_hash=prints(Wish(name="n"), 5))
    again = image(request_hash=prints(Wish(name="n"), 5))
    assert archive_requests.replayed(first, again).replayed
    for other in (prints(Wish(name="m"), 5), prints(Wish(name="n"), 6)):
        with pytest.raises(KeyReused):
            archive_requests.replayed(first, image(request_hash=other))


def test_records_from_before_there_were_fingerprints_answer_their_repeats() -> None:
    assert archive_requests.replayed(image(), image(request_hash="x")).replayed

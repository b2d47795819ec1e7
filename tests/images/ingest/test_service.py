"""What is asked for before the first byte of an archive."""

from __future__ import annotations

import pytest

from pipeline.errors import InvalidInput
from pipeline.images.ingest import service
from pipeline.images.ingest.ingest import Wish
from pipeline.records.idempotency import fingerprint
from schemas.image import ImageSource


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
        service.require_sound(wish)
    assert refused.value.facts["field"] == field


def test_it_is_called_by_its_name_then_its_tag_then_its_file() -> None:
    wish = Wish(name="n", repo_tag="r", filename="f")
    assert service.require_sound(wish) == "n"
    assert service.require_sound(Wish(repo_tag="r", filename="f")) == "r"
    assert service.require_sound(Wish(filename="f\0")) == "f"
    assert service.require_sound(Wish()) == "upload"


def test_only_the_same_request_is_a_repeat() -> None:
    def prints(wish: Wish, length: int) -> str:
        return fingerprint(service.request_of(wish, ImageSource.ARCHIVE, length))

    first = prints(Wish(name="n"), 5)
    assert prints(Wish(name="n"), 5) == first
    assert first not in (prints(Wish(name="m"), 5), prints(Wish(name="n"), 6))


@pytest.mark.parametrize("name", ["m", "team/model:1", "Ünï code", "x" * 255])
def test_a_name_that_can_be_shown_is_taken(name: str) -> None:
    service.require(name, "name")
    assert service.shown(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "a\nb", "\x1b[31m", "a\u2028b"])
def test_another_name_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        service.require(name, "name")
    assert refused.value.facts == {"field": "name"}


def test_of_a_name_that_nobody_chose_the_printable_part_is_shown() -> None:
    assert service.shown("mo\0del\n.tar" + "x" * 300) == ("model.tar" + "x" * 246)
    assert service.shown(None) == ""

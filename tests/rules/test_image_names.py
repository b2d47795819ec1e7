"""How an image that comes as an archive may be called."""

from __future__ import annotations

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules import image_names


@pytest.mark.parametrize("name", ["m", "team/model:1", "Ünï code", "x" * 255])
def test_a_name_that_can_be_shown_is_taken(name: str) -> None:
    image_names.require(name, "name")
    assert image_names.shown(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "a\nb", "\x1b[31m", "a\u2028b"])
def test_another_name_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        image_names.require(name, "name")
    assert refused.value.facts == {"field": "name"}


def test_of_a_name_that_nobody_chose_the_printable_part_is_shown() -> None:
    assert image_names.shown("mo\0del\n.tar" + "x" * 300) == ("model.tar" + "x" * 246)
    assert image_names.shown(None) == ""

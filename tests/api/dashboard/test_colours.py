"""WCAG AA, computed from the style sheet, of both schemes."""

from __future__ import annotations

import re

import pytest

from tests.support.sources import ROOT

STYLE = (ROOT / "api" / "dashboard" / "static" / "style.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
TEXT_LEAST, EDGE_LEAST = 4.5, 3.0
GROUNDS = ("page", "card", "hover")
TEXTS = {
    **dict.fromkeys(("text", "soft", "accent", "bad", "warn"), GROUNDS),
    "on-accent": ("accent",),
    **{f"{tone}": (f"{tone}-bg",) for tone in ("good", "busy", "idle")},
}
TEXTS["bad"] += ("bad-bg",)
TEXTS["warn"] += ("warn-bg",)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_can_be_read_on_every_ground(scheme: dict[str, str]) -> None:
    pairs = [(text, ground) for text, grounds in TEXTS.items() for ground in grounds]
    poor = {
        pair: round(ratio, 2)
        for pair in pairs
        if (ratio := contrast(scheme[pair[0]], scheme[pair[1]])) < TEXT_LEAST
    }
    assert not poor


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_focus_is_seen_on_every_ground(scheme: dict[str, str]) -> None:
    assert all(contrast(scheme["accent"], scheme[ground]) >= EDGE_LEAST for ground in GROUNDS)


def test_both_schemes_name_every_colour_that_is_used() -> None:
    used = set(re.findall(r"var\(--([a-z-]+)\)", STYLE)) - {"mono"}
    assert used <= set(LIGHT) == set(DARK)


def test_black_on_white_has_the_most_contrast() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777", "#fff") == pytest.approx(4.48, abs=0.01)


def contrast(one: str, other: str) -> float:
    """Between 1 and 21, as WCAG 2 defines it for sRGB colours."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    values = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

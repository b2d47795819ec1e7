from __future__ import annotations

from tests.support.documents import settings_table
from tests.support.sources import ROOT


def test_the_settings_page_is_complete_and_true() -> None:
    """`python -m tests.support.documents` writes it anew."""
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text()


def test_every_setting_says_what_it_does() -> None:
    silent = [row for row in settings_table().splitlines()[2:] if row.endswith("|  |")]
    assert not silent

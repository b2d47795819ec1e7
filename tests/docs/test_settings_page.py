from __future__ import annotations

import ast

from pipeline.settings import Settings
from tests.support.documents import settings_table
from tests.support.sources import PACKAGES, ROOT, modules


def test_the_settings_page_is_complete_and_true() -> None:
    """`python -m tests.support.documents` writes it anew."""
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text()


def test_every_setting_says_what_it_does() -> None:
    silent = [row for row in settings_table().splitlines()[2:] if row.endswith("|  |")]
    assert not silent


def test_every_setting_is_read_by_something() -> None:
    read = {
        node.attr
        for module in modules(*PACKAGES)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert set(Settings.model_fields) <= read

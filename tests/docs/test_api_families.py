"""The page that says which API is for whom: its example runs, and it names every family."""

from __future__ import annotations

from api.app import create
from api.operations.openapi import describe
from pipeline.settings import Settings
from tests.support import pages
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard

PAGE = ROOT / "docs" / "api-families.md"


def test_a_command_is_published_and_followed_as_the_page_does(yard: Yard) -> None:
    pages.run(PAGE, yard.state.folder)


def test_every_path_belongs_to_a_family_of_the_page() -> None:
    table = PAGE.read_text().partition("## ")[0]
    for path in describe(create(Settings()))["paths"]:
        parts = path.split("/")
        assert f"`/{parts[1]}" in table, path

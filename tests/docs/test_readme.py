"""What the README shows works as it stands, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.credentials import CONTEXT
from pipeline.settings import Settings
from pipeline.stack.state import PUBLISHED
from tests.support import pages
from tests.support.archives.image_delivery import load
from tests.support.archives.images import busybox_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def test_every_example_of_the_readme_works(yard: Yard) -> None:
    stands_for = {"127.0.0.1:5000": yard.env["MODELYARD_REGISTRY"]}
    engine = yard.env["MODELYARD_ENGINE"]
    load(busybox_image(), engine, "team/model:1")
    pages.run(ROOT / "README.md", yard.state.folder, stands_for, DOCKER_HOST=engine)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for place, section in LINK.findall(page.read_text()):
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), place
        if section:
            assert section in sections(target), section


def test_the_settings_that_pages_name_exist() -> None:
    known = (
        {f"MODELYARD_{name.upper()}" for name in Settings.model_fields} | set(PUBLISHED) | {CONTEXT}
    )
    for page in PAGES:
        named = set(re.findall(r"MODELYARD_[A-Z_]+[A-Z]", page.read_text()))
        assert named <= known, f"{page.name}: {named - known}"


def sections(page: Path) -> set[str]:
    """As they are named in links."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

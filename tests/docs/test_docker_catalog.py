"""The page about the Docker image catalogue: its examples work and answer what the page says."""

from __future__ import annotations

import pytest

from tests.support import pages
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_works_and_answers_what_the_page_says(yard: Yard, registry_host: str) -> None:
    push(busybox_image(), registry_host, "team/model", "1")
    pages.run(ROOT / "docs" / "docker-catalog.md", yard.state.folder, REGISTRY=registry_host)

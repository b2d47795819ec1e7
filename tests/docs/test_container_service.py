"""The page about the container service: every example works and answers what the page says."""

from __future__ import annotations

import pytest

from tests.support import pages
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_works_and_answers_what_the_page_says(yard: Yard, registry_host: str) -> None:
    push(busybox_image(), registry_host, "team/app", "1")
    page = ROOT / "docs" / "container-service.md"
    pages.run(page, yard.state.folder, REGISTRY=registry_host)

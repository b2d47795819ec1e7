"""The page about container images: every example works and answers what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.image_delivery import push
from tests.support.models.model_images import model_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_works_and_answers_what_the_page_says(
    yard: Yard, tmp_path: Path, registry_host: str
) -> None:
    push(model_image(), registry_host, "team/classifier", "1")
    archive = tmp_path / "classifier.tar"
    archive.write_bytes(docker_archive(model_image(), "classifier:1"))
    given = {"ARCHIVE": str(archive), "TMPDIR": str(tmp_path), "REGISTRY": registry_host}
    page = ROOT / "docs" / "container-image.md"
    pages.run(page, yard.state.folder, {"127.0.0.1:5055": registry_host}, **given)

"""The page about documents, run as a reader would: round trip included."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_about_documents_works(yard: Yard, tmp_path: Path) -> None:
    archive = tmp_path / "keeper.tar"
    archive.write_bytes(docker_archive(busybox_image(), "team/keeper:1"))
    page = ROOT / "docs" / "apply.md"
    pages.run(page, yard.state.folder, ARCHIVE=str(archive), FOLDER=str(tmp_path))

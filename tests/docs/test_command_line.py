"""The page about the command line, run as a reader would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_of_the_command_line_works(yard: Yard, tmp_path: Path) -> None:
    archive = tmp_path / "sorter.tar"
    archive.write_bytes(docker_archive(busybox_image(), "team/sorter:1"))
    page = ROOT / "docs" / "command-line.md"
    pages.run(page, yard.state.folder, ARCHIVE=str(archive))

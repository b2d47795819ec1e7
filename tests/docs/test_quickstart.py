"""The quickstart, run as a reader would: block after block in one shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_of_the_quickstart_works_on_a_stack_without_images(
    yard: Yard, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar"
    archive.write_bytes(docker_archive(busybox_image(), "team/model:1"))
    output = pages.run(ROOT / "docs" / "quickstart.md", yard.state.folder, ARCHIVE=str(archive))
    assert '"status": "RUNNING"' in output
    assert '"kind":"running"' in output
    assert "not_found" in output

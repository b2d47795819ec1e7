"""The quickstart, run as a reader would: block after block in one shell."""

from __future__ import annotations

from tests.support import pages
from tests.support.image_delivery import push
from tests.support.images import busybox_image
from tests.support.sources import ROOT
from tests.support.yard import Yard


def test_every_example_of_the_quickstart_works(yard: Yard) -> None:
    push(busybox_image(), yard.env["MODELYARD_REGISTRY"], "team/model", "1")
    output = pages.run(ROOT / "docs" / "quickstart.md", yard.state.folder)
    assert '"status": "RUNNING"' in output
    assert '"kind":"running"' in output
    assert "not_found" in output

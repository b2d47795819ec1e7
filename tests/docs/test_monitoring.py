"""The page about watching what happens, run as a reader would."""

from __future__ import annotations

import pytest

from tests.support import pages
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


@pytest.mark.timeout(pages.DEADLINE_S + 40)
def test_every_example_about_watching_works(yard: Yard) -> None:
    pages.run(ROOT / "docs" / "monitoring.md", yard.state.folder)

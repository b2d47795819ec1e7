"""The page about webhooks, run as a reader would."""

from __future__ import annotations

import random

from tests.support import pages
from tests.support.processes import any_free
from tests.support.sources import ROOT
from tests.support.systems.yard import Yard


def test_every_example_about_webhooks_works(yard: Yard) -> None:
    port = any_free(random.Random())
    pages.run(ROOT / "docs" / "webhooks.md", yard.state.folder, PORT=str(port))

"""The sample model's code is a program of its own, outside of our packages."""

import sys

from tests.support.commands import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "deploy" / "sample-model"))

"""`modelyard api`, `worker` and `agent`: one process of the system each, for a cluster."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def api() -> NoReturn:
    """Serve HTTP: the doors and the dashboard."""
    _become("api")


def worker() -> NoReturn:
    """Work through the stages of the pipeline."""
    _become("workers")


def agent() -> NoReturn:
    """Look after the Docker Engine and the GPUs of this machine."""
    _become("workers.agent")


def _become(module: str) -> NoReturn:
    """The same process id, so that signals of a service manager arrive where they should."""
    os.execv(sys.executable, [sys.executable, "-m", module])

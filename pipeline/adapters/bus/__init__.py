"""NATS: the connection, streams and durables, messages and requests.

nats-py loads aiohttp wherever it is installed, to speak websockets, which nobody here does: without
it every process is 10 MiB smaller.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import cast

_modules = cast(dict[str, ModuleType | None], sys.modules)
if "nats.aio.transport" not in _modules:
    _loaded = _modules.get("aiohttp")
    _modules["aiohttp"] = None
    import_module("nats.aio.transport")
    del _modules["aiohttp"]
    if _loaded is not None:
        _modules["aiohttp"] = _loaded

"""One foreign SDK per file. Adapters never import each other and translate its errors inward."""

from __future__ import annotations

import sys
from typing import Any, Final

_UNWANTED: Final = (
    # httpx loads its command line, and with it three packages for coloured terminals, unless that
    # cannot be imported. No process of ours shows it: 4 MiB in each.
    "httpx._main",
    # PyMongo loads all of `cryptography` to find out that PyOpenSSL is not there: 9 MiB in each.
    # Python's own `ssl` does TLS, as it does whenever PyOpenSSL is missing.
    "pymongo.pyopenssl_context",
)

_loaded: dict[str, Any] = sys.modules
for _name in _UNWANTED:
    _loaded.setdefault(_name, None)

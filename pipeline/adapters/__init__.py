"""One foreign SDK per file. Adapters never import each other and translate its errors inward."""

from __future__ import annotations

import sys

# httpx loads its command line, and with it three packages for coloured terminals, unless that
# cannot be imported. No process of ours shows it: 4 MiB in each.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

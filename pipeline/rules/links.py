"""`Link` headers (RFC 8288), as far as paging needs them."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[\w*]+\s*=\s*(?:\"[^\"]*\"|[^\s\",;]+))*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next\b)", re.IGNORECASE)


def next_path(header: str, url: str) -> str | None:
    """Path and query of the next page after `url`, or None on the last one.

    Raises ValueError when the next page is on another origin: nobody is sent there.
    """
    for target, parameters in _LINK.findall(header):
        if _NEXT.search(parameters):
            return _same_origin(urljoin(url, target), url)
    return None


def _same_origin(target: str, url: str) -> str:
    there, here = urlsplit(target), urlsplit(url)
    if (there.scheme, there.netloc) != (here.scheme, here.netloc) or not there.path:
        raise ValueError("The next page is on another host.")
    return there.path + (f"?{there.query}" if there.query else "")

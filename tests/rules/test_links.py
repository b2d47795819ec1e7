"""The next page of a list."""

from __future__ import annotations

import pytest

from pipeline.rules.links import next_path

URL = "https://h.example:5000/v2/_catalog?n=10"


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("", None),
        ('</v2/_catalog?n=10&last=b>; rel="next"', "/v2/_catalog?n=10&last=b"),
        ("</v2/_catalog?last=b>; rel=next", "/v2/_catalog?last=b"),
        ('<_catalog?last=b>; title="x"; REL="prev next"', "/v2/_catalog?last=b"),
        ("<https://h.example:5000/v2/x>; rel=next", "/v2/x"),
        ('<?last=b>; rel="next"', "/v2/_catalog?last=b"),
        ('</a>; rel="prev", </b>; rel="next"', "/b"),
        ('</a>; rel="prev"', None),
        ('</a>; rel="nextish"', None),
        ("</a>; rel=nextish", None),
        ("</a>", None),
        ("nonsense", None),
    ],
)
def test_the_next_page_is_found(header: str, path: str | None) -> None:
    assert next_path(header, URL) == path


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/v2/x", "//evil.example/x", "http://h.example:5000/x", "file:///x"],
)
def test_another_origin_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="another host"):
        next_path(f"<{target}>; rel=next", URL)

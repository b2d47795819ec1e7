"""What a registry's status means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.registry.responses import (
    Basic,
    Bearer,
    choose_challenge,
    next_path,
    refusal,
    retry_after_s,
)
from pipeline.errors import (
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, RegistryDenied),
        (403, RegistryDenied),
        (404, ManifestNotFound),
        (429, RegistryUnavailable),
        (500, RegistryUnavailable),
        (503, RegistryUnavailable),
        (599, RegistryUnavailable),
        (204, RegistryProtocolError),
        (302, RegistryProtocolError),
        (400, RegistryProtocolError),
        (405, RegistryProtocolError),
        (418, RegistryProtocolError),
    ],
)
def test_each_status_has_one_meaning(status: int, error: type[RegistryError]) -> None:
    found = refusal(status, {}, registry="h.example", wanted="image a:1")
    assert type(found) is error
    assert "h.example" in found.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 17 "}, 17),
        ({"retry-after": "9" * 5000}, 3600),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30,
        ),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT",
                "date": "Wed, 21 Oct 2026 07:28:30 GMT",
            },
            0,
        ),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: int | None) -> None:
    assert retry_after_s(headers) == seconds


# --- The next page of a list

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


# --- What `WWW-Authenticate` asks for

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/nginx:pull"'
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [HUB],
            Bearer(
                "https://auth.docker.io/token",
                "registry.docker.io",
                "repository:library/nginx:pull",
            ),
        ),
        (["bearer REALM=https-host , Service = s"], Bearer("https-host", "s", None)),
        (['Bearer realm="a,b\\"c"'], Bearer('a,b"c', None, None)),
        (['Basic realm="x", Bearer realm="r"'], Bearer("r", None, None)),
        (['Basic realm="x"', 'Bearer realm="r"'], Bearer("r", None, None)),
        (["Basic"], Basic()),
        (['Basic realm="Bearer realm=x"'], Basic()),
        (["Negotiate, Basic realm=x"], Basic()),
        (["NTLM TlRMTVNTUAAB==, Basic realm=x"], Basic()),
        (['Bearer scope="only"', "Basic"], Basic()),
        (["Negotiate"], None),
        (['Bearer scope="only"'], None),
        ([], None),
        ([""], None),
        ([",,, ,"], None),
        (['"quoted"'], None),
        (['Bearer realm="unended'], None),
    ],
)
def test_the_best_offer_is_chosen(headers: list[str], expected: object) -> None:
    assert choose_challenge(headers) == expected


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_header_is_read_to_an_end(headers: list[str]) -> None:
    assert isinstance(choose_challenge(headers), Bearer | Basic | None)


@given(st.text('Bearealm=", \\\t', max_size=200))
def test_near_misses_are_read_to_an_end(header: str) -> None:
    assert isinstance(choose_challenge([header]), Bearer | Basic | None)

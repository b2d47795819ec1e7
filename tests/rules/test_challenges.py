"""What `WWW-Authenticate` asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rules.challenges import Basic, Bearer, choose

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
    assert choose(headers) == expected


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_header_is_read_to_an_end(headers: list[str]) -> None:
    assert isinstance(choose(headers), Bearer | Basic | None)


@given(st.text('Bearealm=", \\\t', max_size=200))
def test_near_misses_are_read_to_an_end(header: str) -> None:
    assert isinstance(choose([header]), Bearer | Basic | None)

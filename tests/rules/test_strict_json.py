from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidInput
from pipeline.rules import strict_json

CLEAN = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CLEAN),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(CLEAN), inner),
)


@given(VALUES)
def test_what_json_can_hold_comes_back_unchanged(value: object) -> None:
    assert strict_json.parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"a":1}]',
        b"\xff",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'"\\ud800"',
        b'{"\\ud800": 1}',
        b'"a\\u0000b"',
        b'{"a\\u0000": 1}',
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1" * 100_000,
        b"1e999",
        b"[" * 100_000,
        b"[" * 101 + b"]" * 101,
    ],
)
def test_what_nobody_could_store_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        strict_json.parse(body)


def test_nesting_up_to_the_limit_is_fine() -> None:
    assert strict_json.parse(b"[" * 100 + b"]" * 100) is not None


def test_any_bytes_give_a_value_or_a_refusal() -> None:
    @given(st.binary())
    def check(body: bytes) -> None:
        try:
            strict_json.parse(body)
        except InvalidInput as refusal:
            assert refusal.message

    check()

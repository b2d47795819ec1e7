import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidInput, TooLarge
from pipeline.strict_json import check, read

KIB = 1024

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda children: st.lists(children) | st.dictionaries(st.text("abc"), children),
    max_leaves=20,
)


@given(json_values)
def test_everything_that_json_can_say_and_the_store_can_hold_is_read(value: Any) -> None:
    assert read(json.dumps(value).encode(), max_bytes=64 * KIB) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a':1}",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e400",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'"\\u0000"',
        b'{"a\\u0000":1}',
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1" * 5000,
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"\xff",
        '{"a":1}'.encode("utf-16"),
        b"{} {}",
    ],
)
def test_what_the_store_could_not_hold_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(body, max_bytes=200 * KIB)


def test_the_limits_themselves_are_allowed() -> None:
    assert read(b"9223372036854775807", max_bytes=KIB) == 2**63 - 1
    assert read(b"[" * 64 + b"]" * 64, max_bytes=128)


def test_a_body_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge, match="at most 10"):
        read(b" " * 11, max_bytes=10)


def test_a_value_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bytes"):
        check({"a": [b"x"]})

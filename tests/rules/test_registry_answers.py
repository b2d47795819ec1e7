"""What a registry's status means."""

from __future__ import annotations

import pytest

from pipeline.errors import (
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
)
from pipeline.rules.registry_answers import refusal, retry_after_s


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

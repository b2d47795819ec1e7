"""The fields of a registry entry and their rules."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.registries import wire
from pipeline.registries.entries import (
    address_of,
    completed,
    host_of,
    hosts_of,
    refuse_forbidden_address,
)
from tests.support.registries.registry_values import FORBIDDEN, RIGHT, WRONG

P = "container_registry_"
SECRET = f"{P}secret"
URL = {f"{P}public_url": "http://registry.test"}


def document_of(body: Any) -> dict[str, Any]:
    """From the wire and back."""
    with wire.errors():
        return wire.named(completed({"id": "x"} | wire.read(body)))


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=P + field):
        document_of(URL | {P + field: value})


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in RIGHT.items() for value in values]
)
def test_a_right_value_is_kept_as_it_is(field: str, value: Any) -> None:
    document = document_of(URL | {P + field: value})
    assert document[P + field] == value


def test_the_url_is_required_and_a_body_is_an_object() -> None:
    with pytest.raises(InvalidInput, match="public_url is required"):
        document_of({})
    for body in ([], None, "x", 1, [URL]):
        with pytest.raises(InvalidInput, match="must be a JSON object"):
            document_of(body)


def test_a_secret_is_kept_in_one_spelling() -> None:
    id = "0d9d4d4e-5c3a-4b0e-9a43-0c2d1f0e9b8a"
    for spelled in (id, id.upper(), "{" + id + "}", id.replace("-", "")):
        assert document_of(URL | {SECRET: spelled})[SECRET] == id


@pytest.mark.parametrize(
    ("url", "host", "address"),
    [
        ("http://Registry.Test:80/", "registry.test", "http://registry.test"),
        ("https://registry.test:443", "registry.test", "https://registry.test"),
        ("http://registry.test:443", "registry.test:443", "http://registry.test:443"),
        ("HTTPS://R.test:5000/a/b/", "r.test:5000", "https://r.test:5000/a/b"),
        ("http://[FD00::1]:5000", "[fd00::1]:5000", "http://[fd00::1]:5000"),
        ("https://docker.io", "registry-1.docker.io", "https://docker.io"),
    ],
)
def test_hosts_are_spelled_as_in_references(url: str, host: str, address: str) -> None:
    assert host_of(url) == host
    assert address_of(url) == address


def test_a_secret_for_the_default_port_may_name_it() -> None:
    assert hosts_of("http://registry.test") == ("registry.test", "registry.test:80")
    assert hosts_of("https://registry.test") == ("registry.test",)
    assert hosts_of("http://registry.test:5000") == ("registry.test:5000",)


@pytest.mark.parametrize("url", FORBIDDEN)
def test_an_address_that_nobody_may_contact_is_refused_literally(url: str) -> None:
    with pytest.raises(InvalidInput, match="public_url"):
        refuse_forbidden_address(url, allow_local=True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://10.1.2.3", "http://[fd00::1]"])
def test_private_addresses_need_the_setting(url: str) -> None:
    refuse_forbidden_address(url, allow_local=True)
    with pytest.raises(InvalidInput):
        refuse_forbidden_address(url, allow_local=False)


def test_names_are_judged_when_they_are_resolved() -> None:
    refuse_forbidden_address("http://metadata.google.internal", allow_local=False)

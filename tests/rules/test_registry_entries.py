"""The fields of a registry entry and their rules."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import InvalidInput
from pipeline.rules.registry_entries import (
    SECRET,
    address_of,
    document_of,
    host_of,
    hosts_of,
    refuse_forbidden_address,
)

P = "container_registry_"
URL = {f"{P}public_url": "http://registry.test"}

WRONG: dict[str, list[Any]] = {
    "id": ["", "a b", "a/b", "é", "x" * 129, 7, None, True, ["a"], "a\n", "$a"],
    "name": [7, None, True, [], {}, "x" * 256],
    "metadata": [None, [], "x", 1, True],
    "config": [None, [], "x", 1, {"$set": 1}, {"a.b": 1}, {"": 1}, {"a": [{"b": {"$c": 1}}]}],
    "tags": [None, "x", {}, [1], [None], [""], ["x" * 129], ["x"] * 101, [["x"]]],
    "image_prefix": [7, None, "x" * 256],
    "storage_info": [
        None,
        [],
        {"storage_type": "S3"},
        {"storage_type": 1},
        {"storage_type": None},
        {"storage_type": ["s3"]},
        {"storage_size": -2},
        {"storage_size": "1"},
        {"storage_size": 1.0},
        {"storage_size": True},
        {"memory_size": -2},
        {"memory_size": None},
        {"registry_type": "internal"},
        {"registry_type": {}},
        {"$other": 1},
    ],
    "secret": ["x", 7, True, [], {}, ""],
    "public_url": [
        None,
        7,
        "",
        "registry.test",
        "registry.test:5000",
        "//registry.test",
        "/v2/",
        "ftp://registry.test",
        "file:///etc/passwd",
        "http://",
        "http:///v2/",
        "http://user@registry.test",
        "http://user:pw@registry.test",
        "http://@registry.test",
        "http://registry.test?x=1",
        "http://registry.test?",
        "http://registry.test#x",
        "http://registry.test#",
        "http://registry.test:0",
        "http://registry.test:99999",
        "http://registry.test:x",
        "http://[::1",
        "http://[::g]",
        "http://[fe80::1%25eth0]",
        "http://bücher.test",
        "http://a b.test",
        " http://registry.test",
        "http://registry.test\n",
        "http://registry.test\\@evil.test",
        "http://" + "x" * 2048,
        "http://%72egistry.test",
        "javascript:alert(1)",
    ],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=P + field):
        document_of(URL | {P + field: value}, default_id="x")


RIGHT: dict[str, list[Any]] = {
    "id": ["a", "A.b_c:d-9", "x" * 128],
    "name": ["", "x" * 255, "☃"],
    "metadata": [{}, {"a": {"b": [1, None, {"c": "d"}]}}],
    "tags": [[], ["x" * 128] * 100, ["a", "a"]],
    "storage_info": [
        {},
        {"storage_type": "s3"},
        {"storage_type": "object-store", "storage_size": -1, "memory_size": 0},
        {"storage_type": "fs", "registry_type": "aios", "colour": {"any": "thing"}},
        {"storage_type": "unknown", "registry_type": "external", "storage_size": 2**40},
    ],
    "secret": [None],
    "public_url": [
        "http://registry.test",
        "https://registry.test:5000/",
        "https://registry.test/some/path",
        "http://10.1.2.3:32633",
        "http://[fd00::1]:5000",
        "http://localhost:5000",
        "http://my_registry:5000",
        "HTTP://Registry.Test",
        "http://registry.test.",
    ],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in RIGHT.items() for value in values]
)
def test_a_right_value_is_kept_as_it_is(field: str, value: Any) -> None:
    document = document_of(URL | {P + field: value}, default_id="x")
    assert document[P + field] == value


def test_the_url_is_required_and_a_body_is_an_object() -> None:
    with pytest.raises(InvalidInput, match="public_url is required"):
        document_of({}, default_id="x")
    for body in ([], None, "x", 1, [URL]):
        with pytest.raises(InvalidInput, match="must be a JSON object"):
            document_of(body, default_id="x")


def test_a_secret_is_kept_in_one_spelling() -> None:
    id = "0d9d4d4e-5c3a-4b0e-9a43-0c2d1f0e9b8a"
    for spelled in (id, id.upper(), "{" + id + "}", id.replace("-", "")):
        assert document_of(URL | {SECRET: spelled}, default_id="x")[SECRET] == id


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


FORBIDDEN = [
    "http://169.254.169.254",
    "http://169.254.1.1:5000",
    "http://[fe80::1]",
    "http://224.0.0.1",
    "http://[ff02::1]",
    "http://0.0.0.0",
    "http://[::]",
    "http://240.0.0.1",
    "http://100.100.100.200",
    "http://[fd00:ec2::254]",
    "http://[::ffff:169.254.169.254]",
    "http://[::ffff:10.0.0.1]",
    "http://2852039166",
    "http://0xa9fea9fe",
    "http://0xa9.0xfe.0xa9.0xfe",
    "http://0251.0376.0251.0376",
    "http://169.254.43518",
    "http://127.1",
]


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

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import KeyReused
from pipeline.records.idempotency import fingerprint, id_for, replayed
from pipeline.records.kernel import now
from schemas.access import Role, User
from schemas.container import ContainerSpec


def user(name: str = "ann", **values: Any) -> User:
    at = now()
    values |= {"password_hash": "", "role": Role.MEMBER, "created_at": at, "updated_at": at}
    return User(uuid="u", org="acme", name=name, **values)


def test_one_key_means_one_record_of_one_organisation_and_resource() -> None:
    first = id_for("acme", "image", "k")
    assert id_for("acme", "image", "k") == first
    assert len({first, id_for("acme", "container", "k"), id_for("other", "image", "k")}) == 3
    assert id_for("acme", "image", None) != id_for("acme", "image", None)


def test_a_fingerprint_is_of_what_is_asked_not_of_how_it_is_written() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    spec = ContainerSpec(image="i")
    assert fingerprint(spec) == fingerprint(spec.model_dump(mode="json"))


def test_a_repeat_gets_the_first_record_and_another_request_is_refused() -> None:
    earlier = user(request_hash="h")
    assert replayed(earlier, "h").replayed
    with pytest.raises(KeyReused):
        replayed(earlier, "other")
    assert replayed(user(), "h").replayed, "a record of before there were fingerprints"


def test_records_without_a_fingerprint_are_compared_by_what_they_hold() -> None:
    assert replayed(user("ann"), None, lambda earlier: earlier.name == "ann").replayed
    with pytest.raises(KeyReused):
        replayed(user("bob"), None, lambda earlier: earlier.name == "ann")

"""Where things lie in the platform's own registry, and whose they are."""

from __future__ import annotations

import pytest

from pipeline.oci import repositories

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize("org", ["default", "o1", "Ärzte & Co", "x" * 300])
def test_an_organisation_finds_its_own_and_nobody_elses(org: str) -> None:
    lies_at = repositories.place(org, "team/model:1", None, DIGEST).repository
    for repository in (lies_at, repositories.pool(org)):
        assert not repositories.is_kept_for_others(org, repository)
        assert repositories.is_kept_for_others("rivals", repository)


@pytest.mark.parametrize(
    "repository",
    ["images", "images/model", "models/abcdefghij", "team/images/x/y", "busybox", "imagesque/a/b"],
)
def test_what_lies_elsewhere_is_not_kept_for_an_organisation(repository: str) -> None:
    assert not repositories.is_kept_for_others("default", repository)


@pytest.mark.parametrize(
    ("repository", "model"),
    [
        (repositories.of_version("abcdefghij", "1.0.0").repository, "abcdefghij"),
        ("models", None),
        ("models/location/classifier", None),
        ("images/models/abcdefghij", None),
    ],
)
def test_the_model_of_a_repository_is_named(repository: str, model: str | None) -> None:
    assert repositories.model_of(repository) == model


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("registry:5000", "registry:5000", True),
        ("registry:5000", "registry:5001", False),
        ("registry:5000", "other:5000", False),
        ("127.0.0.1:5001", "localhost:5001", True),
        ("127.0.0.1:5001", "127.8.9.1:5001", True),
        ("[::1]:5001", "0.0.0.0:5001", True),
        ("127.0.0.1:5001", "localhost:5002", False),
        ("127.0.0.1:5001", "10.0.0.1:5001", False),
        ("registry", "registry", True),
        ("registry", "localhost", False),
    ],
)
def test_two_spellings_of_a_registry_are_known(one: str, other: str, is_same: bool) -> None:
    assert repositories.is_same_registry(one, other) is is_same
    assert repositories.is_same_registry(other, one) is is_same

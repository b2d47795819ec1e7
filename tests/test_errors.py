"""The error tree is complete: every class can be shown, told apart and retried or not."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter

import pytest

import pipeline
from pipeline import errors
from pipeline.errors import YardError, every_error

# Classes may be added elsewhere in the product; the tree counts them once they are imported.
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)

TREE = sorted(
    (kind for kind in every_error() if kind.__module__.startswith("pipeline")),
    key=lambda kind: kind.__name__,
)

RETRYABLE = {
    "TooManyRequests",
    "NoCapacity",
    "NoReplica",
    "NotReady",
    "RegistryUnavailable",
    "Unreachable",
    "EngineUnavailable",
    "PullFailed",
    "DiskFull",
    "GpusUnreadable",
    "StoreUnavailable",
    "BusUnavailable",
    "Overloaded",
    "Timeout",
}
"""What may succeed later without anybody changing anything. A new class must be decided here."""


def test_every_error_of_the_module_is_in_the_tree() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert defined <= set(TREE)


def test_every_class_has_a_code_of_its_own() -> None:
    assert all("code" in vars(kind) for kind in TREE)
    twice = [code for code, times in Counter(kind.code for kind in TREE).items() if times > 1]
    assert twice == []


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_codes_are_snake_case(kind: type[YardError]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", kind.code)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_what_is_retryable_is_decided(kind: type[YardError]) -> None:
    assert kind.retryable is (kind.__name__ in RETRYABLE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_class_carries_its_message_and_facts(kind: type[YardError]) -> None:
    error = kind("Do this.", field="name")
    assert (str(error), error.message, error.facts) == ("Do this.", "Do this.", {"field": "name"})
    assert isinstance(error, YardError)


def test_a_retryable_error_never_hides_in_one_that_the_caller_can_mend() -> None:
    for kind in TREE:
        if kind.retryable:
            assert not issubclass(kind, errors.InvalidInput | errors.Conflict)

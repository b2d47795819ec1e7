"""What differs between a document and a record, told without values that may be secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WHOLE = frozenset(
    {"env", "labels", "annotations", "node_labels", "tmpfs", "extra_hosts", "ulimits", "metadata"}
)
"""Objects whose keys are the caller's own: a key that is not given is one too many."""
CONCEALED = frozenset({"env", "annotations", "url"})
"""Fields of records whose values may be secrets, or hold some."""


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        names = {name.partition("[")[0] for name in self.field.split(".")}
        if names & CONCEALED:
            return f"{self.field}: changed"
        return f"{self.field}: {self.before!r} → {self.after!r}"


def differences(wanted: Any, there: Any, field: str = "") -> Iterator[Difference]:
    """What has to change for all that is wanted to be there; what is not named may be anything."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        names = set(wanted) | (set(there) if field.rpartition(".")[2] in WHOLE else set())
        for name in sorted(names):
            below = f"{field}.{name}" if field else str(name)
            yield from differences(wanted.get(name), there.get(name), below)
    elif isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        for number, (one, other) in enumerate(zip(wanted, there, strict=True)):
            yield from differences(one, other, f"{field}[{number}]")
    elif wanted != there and not (not wanted and not there):
        yield Difference(field, there, wanted)


def bare(value: Any) -> Any:
    """Without what is null or empty, which a document need not say."""
    if isinstance(value, Mapping):
        found = {name: bare(each) for name, each in value.items()}
        return {name: each for name, each in found.items() if each not in (None, {}, [], "")}
    return [bare(each) for each in value] if isinstance(value, list) else value

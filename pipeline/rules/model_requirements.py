"""How much of a node a model may ask for: a fixed list, named by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.errors import InvalidInput

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Requirement:
    """Limits of a container and what a node must have free for it."""

    id: int
    cpus: int
    memory_gib: int
    gpus: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.memory_gib * GIB

    @property
    def cpu_amount(self) -> str:
        return f"{self.cpus * 1000}m"

    @property
    def memory_amount(self) -> str:
        """Whole gibibytes: clients cut the text at the G."""
        return f"{self.memory_gib}Gi"

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.cpus} CPU, {self.memory_gib} GiB of memory{gpus}"


LISTED: Final = (
    Requirement(1, cpus=1, memory_gib=1),
    Requirement(2, cpus=1, memory_gib=2),
    Requirement(3, cpus=2, memory_gib=4),
    Requirement(4, cpus=4, memory_gib=8),
    Requirement(5, cpus=8, memory_gib=16),
    Requirement(6, cpus=16, memory_gib=64),
)
_WELL_KNOWN: Final = (
    Requirement(-6, cpus=1, memory_gib=4, gpus=1),
    # What it means for the platform is decided by the image, not by the number.
    Requirement(-99, cpus=1, memory_gib=1),
)
"""Clients send these without looking into the list, where programs that choose by size would find
them."""
_BY_ID: Final = {each.id: each for each in (*LISTED, *_WELL_KNOWN)}


def find(id: int) -> Requirement:
    """Raises InvalidInput."""
    found = _BY_ID.get(id)
    if found is None:
        known = ", ".join(str(each) for each in sorted(_BY_ID))
        raise InvalidInput(
            f"There is no requirement {id}: choose one of {known}.", field="requirement"
        )
    return found

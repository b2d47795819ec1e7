"""Which process something belongs to, told apart from a later one with the same number."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process id with the time (in clock ticks since boot) at which that process started."""

    pid: int
    started: int

    @classmethod
    def me(cls) -> Owner:
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Of a process that exists now; start time -1 when it does not."""
        return cls(pid, _started(pid))

    @classmethod
    def from_tag(cls, tag: str) -> Owner:
        """Text that is not a tag gives an owner that is not alive."""
        pid, _, started = tag.partition("-")
        return cls(int(pid), int(started)) if pid.isdigit() and started.isdigit() else cls(-1, -1)

    @property
    def tag(self) -> str:
        return f"{self.pid}-{self.started}"

    @property
    def alive(self) -> bool:
        """A zombie is not: it runs no more, whoever forgot to collect it."""
        return self.started >= 0 and _started(self.pid) == self.started


def _started(pid: int) -> int:
    """From /proc; -1 when there is no such process or only its corpse."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    # The command name before this may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])

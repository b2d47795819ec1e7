"""Control groups that the kernel keeps after the processes in them are gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.stack import probes

_ROOT = Path("/sys/fs/cgroup")


async def remove(name: str, *, timeout_s: float = 5) -> None:
    """Removes the group and those inside it, in every hierarchy. Idempotent.

    Waits for processes that are still dying; what is in use after that is left alone.
    """

    async def gone() -> bool:
        return all(map(_removed, _tops(name)))

    await probes.until(gone, timeout_s=timeout_s)


def _tops(name: str) -> list[Path]:
    """Version 1 has one hierarchy per controller, version 2 only one."""
    return [path for path in (_ROOT / name, *_ROOT.glob(f"*/{name}")) if path.is_dir()]


def _removed(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
    return True

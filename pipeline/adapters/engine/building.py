"""Builds: the context as the engine wants it, the request for it, and what comes back.

The packing, with all rules of `.dockerignore`, is the SDK's own.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from docker.utils.build import create_archive, exclude_paths
from requests import Response

from pipeline.adapters.engine.client import explain, message_of
from pipeline.adapters.engine.shapes import JsonLines
from pipeline.build_ports import BuildPlan
from pipeline.errors import BuildFailed, TooLarge, YardError
from pipeline.ports import Credentials

DOCKERFILE: Final = ".modelyard.Dockerfile"
"""Under which the engine gets it; what the context holds stays as it is."""
IGNORE: Final = ".dockerignore"
CPU_PERIOD_US: Final = 100_000
_PROGRESS: Final = frozenset({"Downloading", "Extracting", "Waiting", "Verifying Checksum"})
_OWN_WORDS: Final = "returned a non-zero code"
"""Of an error that quotes the Dockerfile, whose words mean nothing."""


def params(plan: BuildPlan) -> dict[str, str]:
    """Of the engine's first builder: it alone takes logins without a session of its own."""
    limits: dict[str, str] = {}
    if plan.memory_bytes:
        limits |= {"memory": str(plan.memory_bytes), "memswap": str(plan.memory_bytes)}
    if plan.cpus:
        quota = str(int(plan.cpus * CPU_PERIOD_US))
        limits |= {"cpuperiod": str(CPU_PERIOD_US), "cpuquota": quota}
    return {
        "version": "1",
        "t": plan.tag,
        "dockerfile": DOCKERFILE,
        "pull": "1",
        "nocache": "1",
        "rm": "1",
        "forcerm": "1",
        "buildargs": json.dumps(dict(plan.args)),
        **({"target": plan.target} if plan.target else {}),
        **limits,
    }


def headers(logins: Sequence[Credentials]) -> dict[str, str]:
    known = {one.server: {"username": one.username, "password": one.password} for one in logins}
    encoded = base64.urlsafe_b64encode(json.dumps(known).encode()).decode()
    return {"Content-Type": "application/x-tar", "X-Registry-Config": encoded}


def write_context(context: Path, out: IO[bytes], *, dockerfile: str) -> None:
    """A folder as a TAR, without what its `.dockerignore` names. Blocks. Raises OSError."""
    files = sorted(exclude_paths(str(context), _ignored(context), dockerfile=dockerfile))
    create_archive(str(context), files, out)


def pack(plan: BuildPlan) -> IO[bytes]:
    """The context as an open TAR file that goes with its end. Blocks.

    Raises BuildFailed for what cannot be read, TooLarge.
    """
    packed = tempfile.TemporaryFile(dir=plan.scratch)  # noqa: SIM115 - the caller closes it
    try:
        ignored = _ignored(plan.context)
        files = sorted(exclude_paths(str(plan.context), ignored, dockerfile=DOCKERFILE))
        _require_small(plan, files)
        _require_closed(plan.context, files)
        # As the SDK and `docker build -f` do: so the engine leaves the Dockerfile out of the image.
        hidden = "\n".join([*(ignored or [IGNORE]), DOCKERFILE])
        extra = [(IGNORE, hidden), (DOCKERFILE, plan.dockerfile)]
        create_archive(str(plan.context), files, packed, extra_files=extra)
    except OSError as error:
        packed.close()
        raise BuildFailed(f"The context cannot be read: {error.strerror or error}.") from error
    except BaseException:
        packed.close()
        raise
    return packed


def _ignored(context: Path) -> list[str]:
    """Patterns of a `.dockerignore`."""
    try:
        text = (context / IGNORE).read_text("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise BuildFailed(f"{IGNORE} is no UTF-8 text.") from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _require_small(plan: BuildPlan, files: Sequence[str]) -> None:
    most = plan.context_max_bytes
    size = sum(os.lstat(plan.context / path).st_size for path in files)
    if most and size > most:
        raise TooLarge(
            f"The context has more than {most} bytes: name what is not needed in {IGNORE}.",
            limit=most,
        )


def _require_closed(context: Path, files: Sequence[str]) -> None:
    root = context.resolve()
    for path in files:
        place = context / path
        if place.is_symlink() and not place.resolve().is_relative_to(root):
            raise BuildFailed(
                f"The link {path} leads out of the context: remove it, or name it in {IGNORE}."
            )


@dataclass(slots=True)
class Said:
    """What an engine writes while it builds, as text."""

    _lines: JsonLines = field(default_factory=JsonLines)

    def feed(self, piece: bytes) -> Iterator[str]:
        """Raises what the engine reports as the end of the build."""
        for line in self._lines.feed(piece):
            if "error" in line:
                raise failure(0, str(line["error"]))
            if text := _text(line):
                yield text


def refused(answer: Response) -> YardError:
    return failure(answer.status_code, message_of(answer))


def failure(status: int, message: str) -> YardError:
    """`status` 0: said in mid-stream."""
    if _OWN_WORDS in message:
        return BuildFailed(message, engine=message)
    known = explain(status, message, BuildFailed)
    return BuildFailed(message, engine=message) if type(known) is BuildFailed else known


def _text(line: Any) -> str:
    if "stream" in line:
        return str(line["stream"])
    if "status" not in line or line["status"] in _PROGRESS:
        return ""
    return f"{line['id']}: {line['status']}\n" if line.get("id") else f"{line['status']}\n"

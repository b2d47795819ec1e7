"""What an engine says while it pulls, summed up. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from requests import Response

from pipeline.adapters.engine.client import explain, message_of
from pipeline.adapters.engine.shapes import JsonLines, split_reference
from pipeline.errors import (
    DiskFull,
    EngineUnavailable,
    PullDenied,
    PullFailed,
    PullImpossible,
    YardError,
)
from pipeline.ports import Credentials


@dataclass(slots=True)
class _Layer:
    done: int = 0
    total: int | None = None
    complete: bool = False
    waiting: bool = False

    @property
    def known(self) -> bool:
        return self.complete or self.total is not None


@dataclass(slots=True)
class LayerProgress:
    """Bytes of all layers of one pull. `done` never falls, also when a layer is fetched again."""

    done: int = 0
    _layers: dict[str, _Layer] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """None until the size of every layer is known; layers that were there count as nothing."""
        if not self._layers or not all(layer.known for layer in self._layers.values()):
            return None
        return max(self.done, sum(layer.total or 0 for layer in self._layers.values()))

    @property
    def is_queued(self) -> bool:
        """Nothing of it is being fetched: the engine's slots are taken by other pulls."""
        unfinished = [layer for layer in self._layers.values() if not layer.complete]
        return bool(unfinished) and all(layer.waiting for layer in unfinished)

    def note(self, line: Any) -> None:
        """Takes one line of the pull's output; lines that are about no layer change nothing."""
        status, detail = line.get("status", ""), line.get("progressDetail") or {}
        if not line.get("id") or status.startswith("Pulling from"):
            return
        layer = self._layers.setdefault(line["id"], _Layer())
        layer.waiting = status == "Waiting"
        if detail.get("total", 0) > 0:
            layer.total = detail["total"]
        if status == "Downloading":
            layer.done = max(layer.done, detail.get("current", 0))
        elif status in ("Download complete", "Extracting", "Pull complete"):
            layer.done = max(layer.done, layer.total or 0)
        layer.complete = layer.complete or status in ("Pull complete", "Already exists")
        self.done = max(self.done, sum(one.done for one in self._layers.values()))


@dataclass(slots=True)
class Pull:
    """One pull as its output tells it."""

    reference: str
    credentials: Credentials | None
    layers: LayerProgress = field(default_factory=LayerProgress)
    _lines: JsonLines = field(default_factory=JsonLines)

    def feed(self, piece: bytes) -> None:
        """Raises what the engine reports as the end of the pull."""
        for line in self._lines.feed(piece):
            if "error" in line:
                raise pull_error(0, str(line["error"]), self.reference, self.credentials)
            self.layers.note(line)

    def refused(self, answer: Response) -> YardError:
        message = message_of(answer)
        return pull_error(answer.status_code, message, self.reference, self.credentials)


def pull_error(
    status: int, message: str, reference: str, credentials: Credentials | None
) -> YardError:
    """What the engine's words about a failed pull mean. `status` 0: said in mid-stream."""
    said = _without_password(message, credentials)
    known = explain(status, said, PullFailed)
    if isinstance(known, DiskFull | EngineUnavailable):
        return known
    # The name comes from the caller and must not decide what went wrong.
    words = said.lower().replace(split_reference(reference)[0].lower(), "")
    for pattern, kind, reason, advice in _REASONS:
        if re.search(pattern, words):
            return kind(advice.format(reference=reference), reason=reason, engine=said)
    return PullFailed(f"Pulling {reference} failed: {said}", reason="failed", engine=said)


def _without_password(message: str, credentials: Credentials | None) -> str:
    if credentials and credentials.password:
        return message.replace(credentials.password, "***")
    return message


_REASONS: tuple[tuple[str, type[YardError], str, str], ...] = (
    (
        r"denied|unauthorized|authentication required|no basic auth credentials|forbidden",
        PullDenied,
        "denied",
        "The registry denies {reference}: check the credentials and the name.",
    ),
    (
        r"no matching manifest|match the specified platform|operating system cannot be used",
        PullImpossible,
        "platform",
        "{reference} has no image for the platform of this node.",
    ),
    (
        r"manifest unknown|name unknown|not known to registry|manifest for .*not found",
        PullImpossible,
        "not_found",
        "The registry has no {reference}.",
    ),
    (
        r"invalid reference format|invalid tag|invalid checksum digest",
        PullImpossible,
        "invalid",
        "{reference} is no image reference.",
    ),
)

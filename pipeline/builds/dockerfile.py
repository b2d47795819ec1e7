"""A Dockerfile as its engine reads it: which images it starts from, and where a label is put in.

Only what the engine's first builder understands. https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import BuildFailed

MOST_BYTES: Final = 1024 * 1024
SCRATCH: Final = "scratch"

_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(.+?)\s*")
_EMPTY = re.compile(r"\s*(#.*)?")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:[-+])([^{}$]*))?\})")
_FETCHED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@|github\.com/")


@dataclass(frozen=True, slots=True)
class Dockerfile:
    text: str
    """With the label in every stage."""
    bases: tuple[str, ...]
    """References that the engine will pull, each once."""


@dataclass(frozen=True, slots=True)
class _Instruction:
    """One of them, with the number of its last line."""

    last: int
    name: str
    rest: str


@dataclass(slots=True)
class _Reading:
    given: Mapping[str, str]
    known: dict[str, str] = field(default_factory=dict)
    """Values of ARGs before the first FROM: stages see no other ones."""
    stages: set[str] = field(default_factory=set)
    count: int = 0
    bases: dict[str, None] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    """Last lines of the FROMs."""

    def take(self, instruction: _Instruction) -> None:
        match instruction.name:
            case "ARG" if not self.count:
                self._argument(instruction.rest)
            case "FROM":
                self._begin(instruction)
            case "COPY" | "ADD":
                self._copy(instruction)
            case "ONBUILD":
                _, inner = _parted(instruction.rest)
                if _parted(instruction.rest)[0].upper() == "ADD":
                    _require_local(inner)

    def _argument(self, rest: str) -> None:
        for each in _words(rest):
            name, equals, default = each.partition("=")
            if name in self.given:
                self.known[name] = self.given[name]
            elif equals:
                self.known[name] = self._filled(default)

    def _begin(self, instruction: _Instruction) -> None:
        words = [word for word in _words(instruction.rest) if not word.startswith("--")]
        if not words:
            raise BuildFailed("A FROM in the Dockerfile names no image.")
        image = self._filled(words[0])
        if image != SCRATCH and image.lower() not in self.stages:
            self.bases[image] = None
        if len(words) == 3 and words[1].upper() == "AS":
            self.stages.add(words[2].lower())
        self.stages.add(str(self.count))
        self.count += 1
        self.ends.append(instruction.last)

    def _copy(self, instruction: _Instruction) -> None:
        flags, rest = _flags(instruction.rest)
        source = flags.get("from", "").lower()
        if source and source not in self.stages:
            self.bases[flags["from"]] = None
        if instruction.name == "ADD":
            _require_local(rest)

    def _filled(self, text: str) -> str:
        """Variables replaced, as FROM does it."""

        def value(found: re.Match[str]) -> str:
            known = self.known.get(found[1] or found[2], "")
            if found[3] == ":+":
                return found[4] if known else ""
            return known or found[4] or ""

        filled = _VARIABLE.sub(value, text.strip("\"'"))
        if "$" in filled or not filled:
            raise BuildFailed(f"It is not clear which image FROM {text} means: name it.")
        return filled


def read(text: str, *, args: Mapping[str, str], label: str, value: str) -> Dockerfile:
    """The Dockerfile with `label` in every stage: what is left of it can be told from the images of
    others.

    Raises BuildFailed for one that cannot be read, and for an ADD that would have the engine fetch
    something: its requests pass no guard.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    reading = _Reading(args)
    for instruction in _instructions(lines):
        reading.take(instruction)
    if not reading.count:
        raise BuildFailed("The Dockerfile has no FROM.")
    for end in reversed(reading.ends):
        lines.insert(end + 1, f'LABEL "{label}"="{value}"')
    return Dockerfile("\n".join(lines) + "\n", tuple(reading.bases))


def _instructions(lines: list[str]) -> Iterator[_Instruction]:
    goes_on = re.compile(re.escape(_escape(lines)) + r"[ \t]*$")
    held = ""
    for number, line in enumerate(lines):
        if _EMPTY.fullmatch(line):
            continue
        part, more = goes_on.subn("", line)
        held += part
        if more and number + 1 < len(lines):
            continue
        name, rest = _parted(held)
        held = ""
        if name:
            yield _Instruction(number, name.upper(), rest)
    if held.strip():
        name, rest = _parted(held)
        yield _Instruction(len(lines) - 1, name.upper(), rest)


def _escape(lines: list[str]) -> str:
    """What continues a line: a backslash, unless a directive at the top says otherwise."""
    for line in lines:
        found = _DIRECTIVE.fullmatch(line.strip())
        if found is None:
            break
        if found[1].lower() == "escape":
            return found[2]
    return "\\"


def _parted(text: str) -> tuple[str, str]:
    first, *rest = text.strip().split(None, 1) or [""]
    return first, rest[0] if rest else ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BuildFailed(f"The Dockerfile has an open quote in {text[:100]!r}.") from error


def _flags(text: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while text.startswith("--"):
        flag, text = _parted(text)
        name, _, value = flag[2:].partition("=")
        flags[name.lower()] = value
    return flags, text


def _require_local(text: str) -> None:
    """Raises BuildFailed for sources of an ADD that are, or may turn out to be, addresses."""
    _, text = _flags(text)
    try:
        words = json.loads(text) if text.startswith("[") else text.split()
    except ValueError:
        words = text.split()
    for word in map(str, words[:-1]):
        if _FETCHED.match(word.strip("\"'")) or "$" in word:
            raise BuildFailed(
                f"ADD {word[:100]} is not allowed: addresses, and variables that may hold one, are"
                " fetched by the engine itself. Fetch it in a RUN, or use COPY."
            )

"""The documents of a YAML file, each with its place; whatever is wrong is told with its field."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.console import refuse, standard_input
from cli.manifests.kinds import KINDS, Kind

HIDDEN = ("password", "token", "api_key")
"""Of the data of a secret: their values stand in no file of ours."""


@dataclass(frozen=True, slots=True)
class Document:
    kind: type[Kind]
    name: str
    fields: dict[str, Any]
    """What is wanted, under the names of the API."""
    place: str
    """File, number and line, for people."""

    @property
    def title(self) -> str:
        return f"{self.kind.title} {self.name}"


def read(file: str) -> list[Document]:
    """All documents of a file, or by `-` of standard input. Exits for the first that is none."""
    try:
        data = standard_input().read() if file == "-" else Path(file).read_bytes()
        found = list(_documents(data.decode(), "standard input" if file == "-" else file))
    except (OSError, ValueError) as error:
        refuse(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.")
    titles = [each.title for each in found]
    for document, title in zip(found, titles, strict=True):
        if titles.count(title) > 1:
            refuse(f"{document.place}: there is another {title} in this file.")
    return found


def _documents(text: str, file: str) -> Iterator[Document]:
    loader = yaml.SafeLoader(text)
    number = 0
    try:
        while loader.check_node():
            node = loader.get_node()
            number += 1
            value = loader.construct_document(node)
            if node is not None and value is not None:
                line = node.start_mark.line + 1
                yield _document(value, f"{file}, document {number} (line {line})")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        refuse(f"{file}{line}: no YAML: {error.problem}.")
    finally:
        loader.dispose()


def _document(value: Any, place: str) -> Document:
    if not isinstance(value, dict):
        refuse(f"{place}: a document is an object with `kind`.")
    fields = {str(name): each for name, each in value.items()}
    title = fields.pop("kind", None)
    kind = KINDS.get(title) if isinstance(title, str) else None
    if kind is None:
        refuse(f"{place}, field kind: {title!r} is none of {', '.join(KINDS)}.")
    unknown = sorted(set(fields) - set(kind.fields))
    if unknown:
        known = ", ".join(sorted(kind.fields))
        refuse(f"{place}, field {unknown[0]}: {kind.title} has no such field.", f"Known: {known}.")
    for name in kind.required:
        if not fields.get(name):
            refuse(f"{place}, field {name}: is missing.")
    name = str(fields.get(kind.key) or fields.get("reference"))
    return Document(kind, name, fields, place)


def revealed(document: Document, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The data of a secret, from the variables and files that it names. Exits when one is missing,
    and for a password that stands in the document."""
    found = {}
    for name, value in document.fields.get("data", {}).items():
        place = f"{document.place}, field data.{name}"
        match value:
            case {"env": str(variable)} if len(value) == 1:
                if variable not in environ:
                    refuse(f"{place}: the variable {variable} is not set.")
                found[name] = environ[variable]
            case {"file": str(path)} if len(value) == 1:
                try:
                    found[name] = Path(path).read_text("utf-8").removesuffix("\n")
                except (OSError, ValueError) as error:
                    refuse(f"{place}: {path} cannot be read: {error}.")
            case str() if name not in HIDDEN:
                found[name] = value
            case _:
                refuse(f"{place}: give {{env: VARIABLE}} or {{file: PATH}}.")
    return found

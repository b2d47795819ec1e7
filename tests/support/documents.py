"""The documentation's own tables, the OpenAPI document and the client made of it: `make docs`."""

from __future__ import annotations

import ast
import inspect
import itertools

from pydantic import SecretStr

from api.app import create
from api.operations.openapi import PLACE, describe, written
from pipeline import settings
from tests.support import client_code, event_tables
from tests.support.sources import ROOT


def settings_table() -> str:
    """One row per setting, from the code."""
    rows = ["| Variable | Default | What it does |", "|---|---|---|"]
    meanings = _meanings()
    for name, field in settings.Settings.model_fields.items():
        default = field.default
        shown = default.get_secret_value() if isinstance(default, SecretStr) else str(default)
        value = f"`{shown}`" if shown else "empty"
        rows.append(f"| `MODELYARD_{name.upper()}` | {value} | {meanings.get(name, '')} |")
    return "\n".join(rows) + "\n"


def _meanings() -> dict[str, str]:
    tree = ast.parse(inspect.getsource(settings.Settings))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    found = {}
    for field, note in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant)
            if said:
                found[field.target.id] = " ".join(str(note.value.value).split())  # type: ignore[attr-defined]
    return found


if __name__ == "__main__":
    page = ROOT / "docs" / "settings.md"
    head = page.read_text().partition("\n| Variable")[0].rstrip()
    page.write_text(f"{head}\n\n{settings_table()}")
    page = ROOT / "docs" / "events.md"
    head = page.read_text().partition(event_tables.BEGIN)[0]
    page.write_text(f"{head}{event_tables.BEGIN}\n\n{event_tables.event_tables()}")
    document = describe(create(settings.Settings()))
    PLACE.write_text(written(document))
    client_code.write(document)

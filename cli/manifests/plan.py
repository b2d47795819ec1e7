"""What has to be done at a server so that it holds what documents say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.console import FAILED, Part, refuse
from cli.manifests.changes import Difference, differences
from cli.manifests.kinds import KINDS, Existing, Kind, Secret, Site
from cli.manifests.reading import Document, revealed


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one record."""

    kind: Kind
    document: Document | None
    """None for what no document wants any more."""
    record: Existing | None
    """None for what is not there yet."""
    differences: Sequence[Difference] = field(default=())

    @property
    def title(self) -> str:
        name = self.document.name if self.document else self.record and self.record.name
        return f"{self.kind.title} {name}"

    @property
    def is_needed(self) -> bool:
        return self.document is None or self.record is None or bool(self.differences)

    def shown(self) -> list[list[Part]]:
        """Lines for people."""
        if self.document is None:
            return [[("- ", "red"), self.title]]
        if self.record is None:
            return [[("+ ", "green"), self.title]]
        more: list[list[Part]] = [[f"    {each}"] for each in self.differences]
        return [[("~ ", "yellow"), self.title], *more]

    def carry_out(self, mark: str) -> str:
        """Returns what was done."""
        if self.document is None:
            assert self.record is not None
            self.kind.delete(self.record)
            return "deleted"
        fields = self.document.fields
        if self.record is not None:
            named = {each.field.partition(".")[0].partition("[")[0] for each in self.differences}
            self.kind.update(self.record, {name: fields[name] for name in fields if name in named})
            return "changed"
        if isinstance(self.kind, Secret):
            fields = fields | {"data": revealed(self.document)}
        self.kind.create(fields, mark)
        return "made"


def planned(site: Site, documents: Sequence[Document], prune: str | None) -> list[Change]:
    """All changes in the order in which they can be made; what goes goes last, and backwards.

    Exits for a change that cannot be made.
    """
    made, gone = [], []
    for title, each in KINDS.items():
        kind, wanted = each(site), [one for one in documents if one.kind.title == title]
        if not wanted and prune is None:
            continue
        there = {record.name: record for record in kind.existing()}
        made += [_change(kind, document, there.get(document.name)) for document in wanted]
        names = {document.name for document in wanted}
        gone += [
            Change(kind, None, record)
            for record in there.values()
            if prune is not None and record.mark == prune and record.name not in names
        ]
    return [*made, *reversed(gone)]


def _change(kind: Kind, document: Document, record: Existing | None) -> Change:
    if record is None:
        return Change(kind, document, None)
    found = list(differences(kind.wanted(document.fields), record.fields))
    if found and kind.is_fixed:
        refuse(
            f"{document.place}, field {found[0].field}:",
            f"{kind.is_fixed} ({found[0]}).",
            code=FAILED,
        )
    return Change(kind, document, record, found)

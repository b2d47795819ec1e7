"""Small files of models and versions: test inputs, pictures, results of trial runs."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from pipeline.core import records
from pipeline.errors import AlreadyExists, InvalidInput, LostRace
from schemas.model import FileKind, ModelFile, ModelVersion

if TYPE_CHECKING:
    from pipeline.adapters.store import Store

_FILES = uuid.UUID("0f0f6c1c-7d0b-4a55-9f0d-3a2c1f8e7b21")


def file_id(owner: str, kind: FileKind, name: str) -> str:
    """There is one file of a name: the next one takes its place."""
    return str(uuid.uuid5(_FILES, f"{owner}\n{kind}\n{name}"))


class ModelFiles:
    """One file of a kind and name per owner; the newest takes the place of the one before."""

    def __init__(self, store: Store, clock: records.Clock) -> None:
        self._store = store
        self._clock = clock

    async def put(
        self,
        org: str,
        owner: str,
        kind: FileKind,
        content: bytes,
        *,
        name: str = "",
        media_type: str = "application/octet-stream",
    ) -> ModelFile:
        """Keep a file, in place of the one of its name if there is one."""
        at = self._clock()
        file = ModelFile(
            uuid=file_id(owner, kind, name),
            org=org,
            created_at=at,
            updated_at=at,
            owner=owner,
            kind=kind,
            name=name,
            media_type=media_type,
            content=content,
        )
        while True:
            try:
                return await self._store.insert(file)
            except AlreadyExists:
                present = await self._store.get(ModelFile, file.uuid, org=org)
            try:
                values = {"content": content, "media_type": media_type}
                return await self._store.change(present, values, at=at)
            except LostRace:
                continue  # somebody sends another one at the same time: the last one stays

    async def find(self, org: str, owner: str, kind: FileKind, name: str = "") -> ModelFile | None:
        return await self._store.find_one(
            ModelFile, org=org, where={"_id": file_id(owner, kind, name)}
        )

    async def test_inputs(self, version: ModelVersion) -> list[ModelFile]:
        """Those of declared inputs, in the order of their declaration."""
        names = [each.name for each in version.inputs]
        ids = [file_id(version.uuid, FileKind.TEST_INPUT, name) for name in names]
        found = await self._store.find(
            ModelFile, org=version.org, where={"_id": {"$in": ids}}, sort=()
        )
        return sorted(found, key=lambda file: ids.index(file.uuid))

    async def put_test_input(self, version: ModelVersion, name: str, content: bytes) -> ModelFile:
        """Raises InvalidInput when the version declares no such input."""
        if name not in {each.name for each in version.inputs}:
            known = ", ".join(each.name for each in version.inputs)
            raise InvalidInput(
                f"The version has no input {name[:100]!r}: its inputs are {known}.", field="name"
            )
        return await self.put(version.org, version.uuid, FileKind.TEST_INPUT, content, name=name)

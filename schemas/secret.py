"""Registry credentials of an organisation. Values are ciphertext here and nowhere plain at rest."""

from __future__ import annotations

from typing import ClassVar

from schemas.base import Record


class Secret(Record):
    collection: ClassVar[str] = "secrets"
    resource: ClassVar[str] = "secret"

    name: str
    secret_type: str
    server: str
    """`host[:port]` that the credentials are for; they go nowhere else."""
    sealed: str
    """The values, encrypted (`pipeline.rules.vault`), with the id of the key inside."""
    created_by: str | None = None

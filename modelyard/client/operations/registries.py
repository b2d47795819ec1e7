"""Operations: registries.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelyard.client.blocking import Sender
from modelyard.client.calls import Call, Slashed

if TYPE_CHECKING:
    from modelyard.client.types.registries import (
        CatalogNodes,
        CatalogView,
        ChecksView,
        EntryView,
        RotationView,
        SecretRequest,
        SecretSummary,
        SecretsView,
    )


class Registries(Sender):
    """Registries."""

    def get_catalog_entry(self, pk: str) -> CatalogView:
        """One image of the catalogue, with what the validation of it found."""
        found: CatalogView = self._json(Call("GET", "/yard/v1/catalog/{}", (pk,)))
        return found

    def list_catalog_nodes(self, pk: str) -> CatalogNodes:
        """Which nodes could run it now, and for each other one every reason why not: the check
        of the scheduler itself."""
        found: CatalogNodes = self._json(Call("GET", "/yard/v1/catalog/{}/nodes", (pk,)))
        return found

    def list_registries(self, *, limit: int | None = None) -> Iterator[EntryView]:
        """The directory of the organisation, newest first. To search it:
        `/container_registries`."""
        return self._pages(Call("GET", "/yard/v1/registries"), limit)

    def get_registry(self, registry_id: str) -> EntryView:
        """One entry and how it was found the last time."""
        found: EntryView = self._json(Call("GET", "/yard/v1/registries/{}", (registry_id,)))
        return found

    def list_repositories(self, registry_id: str, *, limit: int | None = None) -> Iterator[str]:
        """Repositories, as the registry itself lists them now. Many public registries deny this."""
        return self._pages(
            Call("GET", "/yard/v1/registries/{}/repositories", (registry_id,)), limit
        )

    def list_tags(
        self, registry_id: str, repository: str, *, limit: int | None = None
    ) -> Iterator[str]:
        """Tags of one repository, in the order of the registry."""
        return self._pages(
            Call(
                "GET",
                "/yard/v1/registries/{}/repositories/{}/tags",
                (registry_id, Slashed(repository)),
            ),
            limit,
        )

    def list_checks(self, registry_id: str) -> ChecksView:
        """How the registry has been: the last hundred checks, newest first."""
        found: ChecksView = self._json(Call("GET", "/yard/v1/registries/{}/checks", (registry_id,)))
        return found

    def list_registry_secrets(self) -> SecretsView:
        """All of the organisation, newest first; `login` says whether the server took them."""
        found: SecretsView = self._json(Call("GET", "/yard/v1/secrets"))
        return found

    def add_registry_secret(
        self, body: SecretRequest, *, idempotency_key: str | None = None
    ) -> SecretSummary:
        """Keep credentials of a registry. They are tried once; the finding is in `login`."""
        found: SecretSummary = self._json(
            Call(
                "POST", "/yard/v1/secrets", headers={"Idempotency-Key": idempotency_key}, body=body
            )
        )
        return found

    def get_registry_secret(self, secret: str) -> SecretSummary:
        """One secret, by its id or name, without its values."""
        found: SecretSummary = self._json(Call("GET", "/yard/v1/secrets/{}", (secret,)))
        return found

    def delete_registry_secret(self, secret: str) -> None:
        """Forget a secret, by its id or name, that no image and no registry entry uses."""
        self._nothing(Call("DELETE", "/yard/v1/secrets/{}", (secret,)))

    def rotate_key(self) -> RotationView:
        """Seal everything anew with the first configured key. Can be repeated."""
        found: RotationView = self._json(Call("POST", "/yard/v1/secrets/rotate-key"))
        return found

"""The data of commands: what somebody may publish to ask for something."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.base import Shape


class ById(Shape):
    """An order about a record that exists."""

    id: str


class NodeOrder(Shape):
    """What one agent must do about one container."""

    container: str
    org: str
    fence: int
    """Number of the launch that this belongs to; an older one than the newest seen is refused."""


class VersionOrder(Shape):
    """An order about one version of a model."""

    identifier: str
    """Of the model."""
    version: str
    attempt: str | None = None
    """Which attempt it belongs to; left out by automation, which asks for a new one."""


class RegistryUpdate(Shape):
    """A change to an entry of the registry directory."""

    id: str
    """`container_registry_id`."""
    update: dict[str, Any]
    """A partial document, or update operators: docs/container-registry-db.md."""


class RegistryCheck(Shape):
    """An order to look at a registry."""

    id: str
    """`container_registry_id`."""
    ask: str | None = None
    """Which of the waiting askers it is for; left out by automation."""


class RegistryDraft(BaseModel):
    """A new entry of the registry directory; no value is coerced. docs/container-registry-db.md."""

    model_config = ConfigDict(extra="allow")

    container_registry_id: Any = None
    container_registry_name: Any = None
    container_registry_metadata: Any = None
    container_registry_tags: Any = None
    container_registry_public_url: Any = None
    container_registry_image_prefix: Any = None
    container_registry_config: Any = None
    container_registry_storage_info: Any = None
    container_registry_secret: Any = None

    @property
    def sent(self) -> dict[str, Any]:
        """Exactly what was in the message."""
        return self.model_dump(exclude_unset=True)

"""The data of commands: what somebody may publish to ask for something."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from schemas.access import UserEdit
from schemas.base import Mark, Shape
from schemas.container import ContainerSpec
from schemas.deployment import MAX_REPLICAS, DeploymentEdit, DeploymentSpec
from schemas.image import BuildSpec, ImageSpec
from schemas.organisation import OrganisationEdit, OrganisationSpec

Plain: TypeAlias = Annotated[Any, Mark.PLAIN]


class ById(Shape):
    """An order about a record that exists."""

    id: str


class ContainerDelete(ById):
    """An order to stop and remove a container."""

    volumes: bool = False
    """With what it kept in its volumes."""


class ContainerReplace(ContainerSpec):
    """An order to have a new container take the place of another."""

    id: str
    """Of the one that goes."""


class DeploymentUpdate(DeploymentEdit):
    """A change to a deployment: what `DeploymentEdit` may say, or a number of replicas."""

    id: str
    replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)


class DeploymentRollback(Shape):
    """An order to return to an earlier template."""

    id: str
    generation: int | None = None
    """None is the one before."""


class OrganisationUpdate(OrganisationEdit):
    """A change to an organisation."""

    id: str
    """uuid or slug."""


class UserUpdate(UserEdit):
    """A change to a user. Passwords do not travel by queue."""

    id: str


class NodeOrder(Shape):
    """What one agent must do about one container, or about one build."""

    container: str = ""
    build: str | None = None
    org: str
    fence: int = 0
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

    container_registry_id: Plain = None
    container_registry_name: Plain = None
    container_registry_metadata: Any = None
    container_registry_tags: Any = None
    container_registry_public_url: Plain = None
    container_registry_image_prefix: Plain = None
    container_registry_config: Any = None
    container_registry_storage_info: Any = None
    container_registry_secret: Any = None

    @property
    def sent(self) -> dict[str, Any]:
        """Exactly what was in the message."""
        return self.model_dump(exclude_unset=True)


class CatalogDraft(BaseModel):
    """A new Docker image of the catalogue. docs/docker-catalog.md."""

    model_config = ConfigDict(extra="allow")

    name: Plain = None
    version: Plain = None
    url: Plain = None
    registry_url: Plain = None
    registry_username: Any = None
    registry_password: Any = None
    cuda_version: Plain = None
    framework: Plain = None
    domain: Plain = None
    tasks: Any = None
    min_hardware_generation: Plain = None
    cpu: Plain = None
    licence: Plain = None

    @property
    def sent(self) -> dict[str, Any]:
        """Exactly what was in the message."""
        return self.model_dump(exclude_unset=True)


class CatalogUpdate(Shape):
    """A change to a Docker image of the catalogue: the fields that are sent."""

    id: str
    """Its `pk`, as text."""
    update: dict[str, Any]


class CatalogValidate(Shape):
    """An order to look at the image of an entry of the catalogue."""

    id: str
    edition: int | None = None
    """Which edition it is for; left out by automation."""


class CatalogSettle(Shape):
    """An order to record what became of the image of an entry."""

    id: str
    image: str


class CatalogForget(Shape):
    """An order to delete what an entry of the catalogue needs no more."""

    id: str
    image: str | None = None
    secret: str | None = None


COMMANDS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        "build.create": BuildSpec,
        "build.publish": ById,
        "build.cancel": ById,
        "container.create": ContainerSpec,
        "container.place": ById,
        "container.stop": ById,
        "container.start": ById,
        "container.restart": ById,
        "container.replace": ContainerReplace,
        "container.delete": ContainerDelete,
        "deployment.create": DeploymentSpec,
        "deployment.update": DeploymentUpdate,
        "deployment.start": ById,
        "deployment.stop": ById,
        "deployment.restart": ById,
        "deployment.rollback": DeploymentRollback,
        "deployment.delete": ById,
        "deployment.reconcile": ById,
        "image.create": ImageSpec,
        "image.validate": ById,
        "image.supersede": ById,
        "image.delete": ById,
        "image.load": VersionOrder,
        "image.run": VersionOrder,
        "image.serve": VersionOrder,
        "image.shutdown": VersionOrder,
        "node.cordon": ById,
        "node.uncordon": ById,
        "node.drain": ById,
        "node.resume": ById,
        "node.delete": ById,
        "organisation.create": OrganisationSpec,
        "organisation.update": OrganisationUpdate,
        "organisation.delete": ById,
        "registry.create": RegistryDraft,
        "registry.update": RegistryUpdate,
        "registry.delete": ById,
        "registry.health": RegistryCheck,
        "user.update": UserUpdate,
        "secret.check": ById,
        "webhook-delivery.deliver": ById,
        "catalog.create": CatalogDraft,
        "catalog.update": CatalogUpdate,
        "catalog.delete": ById,
        "catalog.validate": CatalogValidate,
        "catalog.settle": CatalogSettle,
        "catalog.forget": CatalogForget,
    }
)
"""Shape of the data of every command, by resource and verb."""

"""What a document can be about: how it is looked up, made, changed, removed and exported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cli.client import Client, given
from cli.console import FAILED, refuse
from cli.manifests.changes import bare
from cli.progress import follow
from modelyard.client.types import DeploymentSpec, ImageSpec, WebhookSpec

MARK = "modelyard-apply"
"""The annotation that names the set of documents that a record was made for."""
SETTLED = {"READY", "FAILED", "DELETED"}
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Existing:
    """A record as a document would say it."""

    id: str
    name: str
    fields: Fields
    mark: str = ""
    """The set that it was made for, if `apply` made it and its kind can say so."""


class Site:
    """What there is at a server, looked up once."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @cached_property
    def secrets(self) -> list[Any]:
        return list(self.client.list_registry_secrets()["items"])

    @cached_property
    def images(self) -> list[Any]:
        """Those that can be referred to by name."""
        return list(self.client.list_images())

    def secret_name(self, secret: str | None) -> str | None:
        """Records name a secret by its ID, documents by its name."""
        names = {str(each["uuid"]): str(each["name"]) for each in self.secrets}
        return names.get(secret or "", secret)

    def image_name(self, image: str) -> str:
        """One name for all that an image is called by."""
        for each in self.images:
            if image in (each["uuid"], each["name"], each["reference"]):
                return str(each["name"])
        return image


class Kind(ABC):
    """One kind of document, at one server."""

    title: ClassVar[str]
    key: ClassVar[str] = "name"
    fields: ClassVar[tuple[str, ...]]
    required: ClassVar[tuple[str, ...]] = ("name",)
    is_fixed: ClassVar[str] = ""
    """Why a record is never changed; empty for those that are."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = site.client

    @abstractmethod
    def existing(self) -> list[Existing]:
        """All records, but those that belong to others of ours."""

    def wanted(self, fields: Fields) -> Fields:
        """The fields of a document in the form in which records show them."""
        return fields

    @abstractmethod
    def create(self, fields: Fields, mark: str) -> None:
        """Makes the record, marked where its kind has room for it."""

    def update(self, record: Existing, fields: Fields) -> None:
        """Changes these fields. Only of kinds that are not fixed."""
        raise AssertionError(f"{self.title} is fixed")

    def delete(self, record: Existing) -> None:
        """Only of kinds that bear a mark."""
        raise AssertionError(f"{self.title} bears no mark")


class Secret(Kind):
    """Credentials of a registry. Only name, type and server can be compared."""

    title = "Secret"
    fields = ("name", "type", "data")
    required = ("name", "data")
    is_fixed = "a secret is not changed: delete it first, or give another name"

    def existing(self) -> list[Existing]:
        return [
            Existing(
                each["uuid"],
                each["name"],
                {"name": each["name"], "type": each["secret_type"], "server": each["server"]},
            )
            for each in self.site.secrets
        ]

    def wanted(self, fields: Fields) -> Fields:
        # Other values cannot be read back, and so cannot be compared.
        server = fields["data"].get("server")
        said = {name: each for name, each in fields.items() if name != "data"}
        return said | ({"server": server} if isinstance(server, str) else {})

    def create(self, fields: Fields, mark: str) -> None:
        kind = fields.get("type", "registry")
        self.client.add_registry_secret(
            {"name": fields["name"], "secret_type": kind, "data": fields["data"]}
        )


class Registry(Kind):
    """An entry of the directory, by its ID; its mark lies in its metadata."""

    title = "Registry"
    key = "id"
    fields = ("id", "name", "public_url", "image_prefix", "tags", "secret", "metadata")
    required = ("id", "public_url")

    def existing(self) -> list[Existing]:
        door = Client("", self.client.server)
        found = door.call("POST", "/container_registries", json={}, params={"limit": 1000})["data"]
        return [self._read(each) for each in found]

    def _read(self, entry: Fields) -> Existing:
        said = {name: entry.get(f"container_registry_{name}") for name in self.fields}
        said["secret"] = self.site.secret_name(said["secret"])
        metadata = dict(said["metadata"] or {})
        mark = str(metadata.pop(MARK, ""))
        return Existing(str(said["id"]), str(said["id"]), said | {"metadata": metadata}, mark)

    def create(self, fields: Fields, mark: str) -> None:
        marked = fields | {"metadata": {**fields.get("metadata", {}), MARK: mark}}
        self._send("POST", "/container_registry", entry=marked)

    def update(self, record: Existing, fields: Fields) -> None:
        change = {name: each for name, each in fields.items() if name != "id"}
        if "metadata" in change and record.mark:
            change["metadata"] = {**change["metadata"], MARK: record.mark}
        self._send("PUT", "/container_registry", record.id, entry=change)

    def delete(self, record: Existing) -> None:
        self._send("DELETE", "/container_registry", record.id)

    def _send(self, method: str, path: str, *pieces: str, entry: Fields | None = None) -> None:
        options = {}
        if entry is not None:
            if entry.get("secret"):
                entry["secret"] = self.client.get_registry_secret(entry["secret"])["uuid"]
            options["json"] = {f"container_registry_{name}": each for name, each in entry.items()}
        Client("", self.client.server).call(method, path, *pieces, **options)


class Image(Kind):
    """An image by reference; what came as an archive is no document."""

    title = "Image"
    fields = tuple(ImageSpec.__annotations__)
    required = ("reference",)
    is_fixed = "an image is not changed: delete it first, or give another name"

    def existing(self) -> list[Existing]:
        return [self._read(each) for each in self.site.images if each["source"] == "reference"]

    def _read(self, image: Any) -> Existing:
        annotations = dict(image["annotations"])
        mark = str(annotations.pop(MARK, ""))
        said = {
            "name": image["name"] if image["named"] else None,
            "reference": image["reference"],
            "platform": image["requested_platform"],
            "secret": self.site.secret_name(image["secret"]),
            "needs": image["requested_needs"],
            "labels": image["labels"],
            "defaults": image["defaults"],
            "annotations": annotations,
        }
        return Existing(image["uuid"], image["name"], said, mark)

    def wanted(self, fields: Fields) -> Fields:
        # It loads what only this needs.
        from pipeline.errors import InvalidReference
        from pipeline.oci import references

        for image in self.site.images:
            if image["name"] in (fields.get("name"), fields["reference"]):
                try:
                    same = references.parse(fields["reference"]) == references.parse(
                        image["reference"]
                    )
                except InvalidReference:
                    break
                return fields | ({"reference": image["reference"]} if same else {})
        return fields

    def create(self, fields: Fields, mark: str) -> None:
        marked = fields | {"annotations": {**fields.get("annotations", {}), MARK: mark}}
        image = self.client.call("POST", "/images", json=marked)
        image = follow(self.client, "images", image, until=SETTLED)
        if image["status"] != "READY":
            refuse(f"The image is {image['status']}:", str(image["reason"]), code=FAILED)

    def delete(self, record: Existing) -> None:
        self.client.delete_image(record.id)


class Deployment(Kind):
    """A deployment that nobody but its owner edits: those of models are left out."""

    title = "Deployment"
    fields = tuple(DeploymentSpec.__annotations__)
    required = ("name", "template")

    def existing(self) -> list[Existing]:
        found = self.client.list_deployments()
        return [self._read(each) for each in found if each["owner"] is None]

    def _read(self, deployment: Any) -> Existing:
        annotations = dict(deployment["annotations"])
        mark = str(annotations.pop(MARK, ""))
        spec = deployment["template"]["spec"]
        template = spec | {"image": self.site.image_name(spec["image"])}
        # The deployment chooses them.
        template = {name: each for name, each in template.items() if name not in _CHOSEN}
        said = {name: deployment[name] for name in self.fields}
        said |= {"template": template, "annotations": annotations}
        return Existing(deployment["uuid"], deployment["name"], said, mark)

    def wanted(self, fields: Fields) -> Fields:
        template = fields["template"]
        if not isinstance(template, dict) or "image" not in template:
            return fields
        return fields | {
            "template": template | {"image": self.site.image_name(str(template["image"]))}
        }

    def create(self, fields: Fields, mark: str) -> None:
        marked = fields | {"annotations": {**fields.get("annotations", {}), MARK: mark}}
        self.client.call("POST", "/deployments", json=marked)

    def update(self, record: Existing, fields: Fields) -> None:
        if "annotations" in fields and record.mark:
            fields = fields | {"annotations": {**fields["annotations"], MARK: record.mark}}
        self.client.call("PATCH", "/deployments", record.id, json=fields)

    def delete(self, record: Existing) -> None:
        # While one of its replicas is left its image cannot go.
        going = self.client.delete_deployment(record.id)
        follow(self.client, "deployments", dict(going), until={"DELETED"})


_CHOSEN = ("name", "restart")


class Webhook(Kind):
    """Whom the organisation tells what happens. It has no room for a mark."""

    title = "Webhook"
    fields = (*WebhookSpec.__annotations__, "active")
    required = ("name", "url")

    def existing(self) -> list[Existing]:
        return [
            Existing(
                each["uuid"],
                each["name"],
                {name: each.get(name) for name in self.fields}
                | {"active": each["status"] == "ACTIVE"},
            )
            for each in self.client.list_webhooks()
        ]

    def create(self, fields: Fields, mark: str) -> None:
        asked = {name: each for name, each in fields.items() if name != "active"}
        made = self.client.call("POST", "/webhooks", json=asked)
        if fields.get("active") is False:
            self.client.edit_webhook(made["uuid"], {"active": False})

    def update(self, record: Existing, fields: Fields) -> None:
        change = {name: each for name, each in fields.items() if name != "name"}
        self.client.call("PATCH", "/webhooks", record.id, json=change)


KINDS: dict[str, type[Kind]] = {
    each.title: each for each in (Secret, Registry, Image, Deployment, Webhook)
}
"""In the order in which they are made: each may refer to those before it."""


def exported(kind: Kind) -> list[Fields]:
    """Documents of all records, without what need not be said."""
    found = []
    for record in kind.existing():
        fields = bare(record.fields)
        if fields.get("active") is True:
            del fields["active"]
        if isinstance(kind, Secret):
            fields = {**fields, "data": _named_data(record)}
            del fields["server"]
        found.append({"kind": kind.title, **given(**fields)})
    return found


def _named_data(secret: Existing) -> Fields:
    """Variables that its values may come from."""
    variable = "".join(each if each.isalnum() else "_" for each in secret.name).upper()
    word = "token" if secret.fields["type"] in ("docker_hub", "depot") else "password"
    data: Fields = {name: {"env": f"{variable}_{name.upper()}"} for name in ("username", word)}
    return data | ({"server": secret.fields["server"]} if word == "password" else {})

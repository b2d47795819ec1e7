"""What clients send to bring an image, as the image that it asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from api.imported_containers.answers import refused
from api.imported_containers.fields import Fields, NetworkFields
from pipeline.errors import InvalidInput, InvalidReference
from pipeline.oci import references
from schemas.container import HealthCheck, LaunchDefaults, PortSpec
from schemas.image import CLIENTS_OWN, ImageSpec
from schemas.registries.secret import SecretSummary, SecretType

GPUS_MAX: Final = 1024


class Draft:
    """What a client asks for. Raises InvalidInput with all that is wrong with it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        fields = Fields(body)
        self.name = fields.text("name")
        self.gpus = self._gpus(fields)
        self.path = self._path(fields)
        self.tag = self._tag(fields)
        self.source_type = self._source_type(fields)
        is_public = self.source_type is SecretType.DOCKER_HUB and not body.get("source_secret")
        self.secret = None if is_public else fields.uuid("source_secret")
        self.env = fields.env("env")
        network = NetworkFields(fields)
        self.ports, self.healthcheck = network.ports, network.healthcheck
        self.custom = _custom(fields)
        if fields.wrong:
            raise refused({"detail": fields.wrong})

    @property
    def url(self) -> str:
        """As it was sent."""
        return f"{self.path}:{self.tag}"

    def rejected(self) -> InvalidInput:
        told = f"Could not validate Docker Image: {self.url} against the provided secrets"
        return refused({"detail": {"non_field_errors": [told]}})

    def spec(self, secret: SecretSummary | None, host: str) -> ImageSpec:
        reference = self.url if _names_host(self.path) else f"{host}/{self.url}"
        try:
            references.parse(reference)
        except InvalidReference as error:
            raise refused({"detail": {"registry_path": [error.message]}}) from error
        return ImageSpec(
            reference=reference,
            name=self.name,
            secret=secret and secret.uuid,
            defaults=self._defaults(),
        )

    def own(self, secret: SecretSummary | None) -> dict[str, str]:
        """The annotations that only this door writes."""
        kind = self.source_type or (secret and secret.secret_type) or SecretType.REGISTRY
        kept = {"source_type": kind, "registry_path": self.path, "docker_tag": self.tag}
        return {CLIENTS_OWN: json.dumps(kept | self.custom)}

    def _defaults(self) -> LaunchDefaults:
        return LaunchDefaults(
            gpus=self.gpus,
            env=self.env,
            ports=[PortSpec(internal=port) for port in self.ports.values()],
            health=health_check(self.healthcheck, self.ports),
        )

    def _gpus(self, fields: Fields) -> int:
        if "runtime_gpus" not in fields.body:
            # Not `required`: so it is documented.
            fields.refuse("runtime_gpus", "This field may not be null.")
            return 0
        return fields.integer("runtime_gpus", most=GPUS_MAX)

    def _path(self, fields: Fields) -> str:
        path = fields.text("registry_path")
        if "registry_path" in fields.wrong:
            return path
        last = path.rpartition("/")[2]
        host = "" if _names_host(path) else "any.host/"
        if "://" in path:
            fields.refuse("registry_path", "Leave the scheme off.")
        elif "@" in path or ":" in last:
            fields.refuse("registry_path", "Leave tag and digest off: the tag is docker_tag.")
        elif not _is_reference(f"{host}{path}:tag"):
            fields.refuse("registry_path", "Enter the path of an image, such as myorg/myimage.")
        return path

    def _tag(self, fields: Fields) -> str:
        tag = fields.text("docker_tag")
        if "docker_tag" not in fields.wrong and not _is_reference(f"any.host/path:{tag}"):
            fields.refuse("docker_tag", "Enter a tag of at most 128 letters, digits, _, . or -.")
        return tag

    def _source_type(self, fields: Fields) -> SecretType | None:
        given = fields.body.get("source_type")
        if given is None:
            return None
        lower = given.strip().lower() if isinstance(given, str) else ""
        if lower not in set(SecretType):
            shown = given if isinstance(given, str) else json.dumps(given)
            fields.refuse("source_type", f'"{shown[:100]}" is not a valid choice.')
            return None
        return SecretType(lower)


def health_check(given: Mapping[str, Any], ports: Mapping[str, int]) -> HealthCheck | None:
    """Of a `healthcheck` with its defaults; None without one, or without a port to ask."""
    port = given.get("port", ports.get("http"))
    if not given or port is None:
        return None
    return HealthCheck(
        port=port,
        path=given["path"],
        start_period_s=given["initialDelaySeconds"],
        interval_s=given["periodSeconds"],
        timeout_s=given["timeoutSeconds"],
    )


def _custom(fields: Fields) -> dict[str, Any]:
    """Defaults for deployments that only clients read again."""
    given = {
        name: fields.body[name]
        for name in ("ports", "healthcheck", "metrics_path", "deployment_custom_configuration")
        if fields.has(name)
    }
    paths = given.get("metrics_path", [])
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        fields.refuse("metrics_path", "Expected a list of strings.")
    if not isinstance(given.get("deployment_custom_configuration", {}), dict | list):
        fields.refuse("deployment_custom_configuration", "Expected an object or a list.")
    return given


def _names_host(path: str) -> bool:
    first, slash, _ = path.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first)


def _is_reference(text: str) -> bool:
    try:
        references.parse(text)
    except InvalidReference:
        return False
    return True

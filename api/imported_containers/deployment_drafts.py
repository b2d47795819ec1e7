"""What clients send to have an image deployed, as the deployment that it asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from api.imported_containers.answers import refused
from api.imported_containers.autoscale_config import AutoscaleConfig
from api.imported_containers.fields import NO_UUID, Fields, NetworkFields, canonical, kept
from api.imported_containers.model_repo_drafts import health_check
from pipeline.images.specs import env_text
from schemas.container import ContainerSpec, HealthCheck, PortSpec, Resources
from schemas.deployment import (
    MAX_REPLICAS,
    AutoscalePolicy,
    DeploymentEdit,
    DeploymentSpec,
    ReplicaSpec,
)
from schemas.image import CLIENTS_OWN, Image

CPU: Final = "cpu"
FIXED: Final = ("model_repo", "org", "cluster")
"""What no edit changes."""
GIB: Final = 2**30
STORED: Final = (
    *("env_variables", "ports", "healthcheck", "gpu_id", "nodegroups", "autoscale_config"),
    *("persistent_volume_claims", "deployment_custom_configuration", "fast_scaleup", "cluster"),
    *("deployment_tag", "async_deployment_type", "advanced_configuration", "metrics_path"),
    *("auth_enabled", "extra_details", "deployment_input_files", "sidecars"),
    *("cpu_request", "cpu_limit", "memory_request", "memory_limit", "scale_to_zero_enabled"),
)
_REPLICAS: Final = frozenset({"min_pod_replicas", "max_pod_replicas"})
_CROSS: Final = _REPLICAS | {"autoscale_config", "scale_to_zero_enabled"}
"""What an edit may make wrong without naming it."""


class DeploymentDraft:
    """What there should be. Raises InvalidInput with all that is wrong with the fields."""

    def __init__(
        self, body: Mapping[str, Any], *, is_byoc: bool, before: Mapping[str, Any] | None = None
    ) -> None:
        """`before`: what an edit, which `body` is then, begins with."""
        self._is_edit = before is not None
        fixed = [name for name in FIXED if self._is_edit and body.get(name) not in (None, "")]
        changed = {name: body[name] for name in body if not self._is_edit or name not in FIXED}
        self._given = set(changed)
        self._body = {**(before or {}), **changed}
        fields = self._fields = Fields(self._body)
        for name in fixed:
            fields.refuse(name, "This field cannot be changed.")
        self.image = "" if self._is_edit else fields.uuid("model_repo")
        self._identity(fields, is_byoc)
        self.env = fields.env("env_variables")
        self._network = NetworkFields(fields)
        self._resources = self._amounts(fields)
        self.policy = self._autoscaled(fields)
        self._others(fields)
        wrong = self._wrong(is_byoc)
        if wrong:
            raise refused(wrong)

    def spec(self, image: Image) -> DeploymentSpec:
        own = self._network_of(image)
        template = ReplicaSpec(
            image=image.uuid,
            env=_texts(self.env),
            ports=own.ports,
            health=own.health,
            gpus=gpus_of(image),
            gpu_model=self._model,
            resources=self._resources,
            node_groups=self.groups,
        )
        return DeploymentSpec(
            name=self.name,
            template=template,
            min_replicas=self.low,
            max_replicas=self.high,
            autoscale=self.policy,
        )

    def edit(self, image: Image, now: ContainerSpec) -> DeploymentEdit:
        """What the body changes, and nothing that it does not name."""
        own = self._network_of(image)
        changes: dict[str, Any] = {}
        if "env_variables" in self._given:
            changes["env"] = _texts(self.env)
        if {"ports", "healthcheck"} & self._given:
            changes |= {"ports": own.ports, "health": own.health}
        if "gpu_id" in self._given:
            changes |= {"gpu_model": self._model, "gpus": gpus_of(image)}
        if "nodegroups" in self._given:
            changes["node_groups"] = self.groups
        if {"cpu_request", "cpu_limit", "memory_request", "memory_limit"} & self._given:
            changes["resources"] = self._resources
        made = now.model_copy(update=changes)
        return DeploymentEdit(
            name=self.name if "name" in self._given else None,
            template=ReplicaSpec(**dict(made)) if changes else None,
            min_replicas=self.low,
            max_replicas=self.high,
            autoscale=self.policy or AutoscalePolicy(),
        )

    def own(self, image: Image) -> dict[str, str]:
        """The annotations that only this door writes."""
        given = {name: self._body[name] for name in STORED if self._fields.has(name)}
        inherited = {
            name: value
            for name, value in kept(image.annotations).items()
            if name in ("metrics_path", "deployment_custom_configuration", "ports", "healthcheck")
        }
        return {CLIENTS_OWN: json.dumps(inherited | given)}

    @property
    def _model(self) -> str | None:
        return None if self.gpu_id.lower() == CPU else self.gpu_id or None

    def _network_of(self, image: Image) -> Network:
        """Its own, else what the image's owner says, else what the image exposes."""
        ports, given = self._network.ports, self._network.healthcheck
        internal = list(ports.values()) or [each.internal for each in image.defaults.ports]
        exposed = internal or image.needs.ports
        check = given or NetworkFields(Fields(kept(image.annotations))).healthcheck
        health = image.defaults.health
        if check:
            health = health_check(check, {"http": exposed[0]} if exposed else {})
        if given and health is None:
            raise refused({"healthcheck": ["port is required: the image exposes none."]})
        if health is not None and not ports and health.port not in exposed:
            internal = [*exposed, health.port]
        return Network([PortSpec(internal=port) for port in internal], health)

    # Fields

    def _identity(self, fields: Fields, is_byoc: bool) -> None:
        self.name = fields.text("name", least=3, most=30 if is_byoc else 255)
        if is_byoc and "name" not in fields.wrong and not self.name[0].isalpha():
            fields.refuse("name", "It must begin with a letter.")
        self.low = fields.integer("min_pod_replicas", most=MAX_REPLICAS)
        self.high = fields.integer("max_pod_replicas", least=1, most=MAX_REPLICAS)
        if not _REPLICAS & set(fields.wrong) and self.high < self.low:
            fields.refuse("max_pod_replicas", "It must not be less than min_pod_replicas.")
        self.gpu_id = ""
        if not is_byoc or fields.has("gpu_id"):
            self.gpu_id = fields.text("gpu_id")
        self.groups = self._groups(fields)

    def _groups(self, fields: Fields) -> list[str]:
        given = self._body.get("nodegroups")
        if not isinstance(given, list):
            return []
        found = [canonical(each) for each in given]
        if None in found:
            fields.refuse("nodegroups", NO_UUID)
        return [each for each in found if each]

    def _amounts(self, fields: Fields) -> Resources:
        """The request is set aside, and is the limit where none is named; the other way round, too.
        Of memory the limit is set aside: who has none left takes it from nobody."""
        cpu = fields.number("cpu_request"), fields.number("cpu_limit")
        memory = fields.number("memory_request"), fields.number("memory_limit")
        if any(each is not None and each <= 0 for each in cpu):
            fields.refuse("non_field_errors", "CPU request and limit must be greater than 0")
        if any(each is not None and each <= 0 for each in memory):
            fields.refuse("non_field_errors", "Memory request and limit must be greater than 0")
        for name, (request, limit) in {"cpu_limit": cpu, "memory_limit": memory}.items():
            if request is not None and limit is not None and limit < request:
                fields.refuse(name, "It must not be less than the request.")
        if fields.wrong:
            return Resources()  # which nobody gets: all that is wrong is told together
        return Resources(
            cpus=cpu[0] or cpu[1] or 0,
            cpus_limit=(cpu[0] and cpu[1]) or 0,
            # Rounded up: 0 bytes would be as many as there are.
            memory_bytes=math.ceil((memory[1] or memory[0] or 0) * GIB),
        )

    def _autoscaled(self, fields: Fields) -> AutoscalePolicy | None:
        given = fields.mapping("autoscale_config")
        is_async = fields.choice("async_deployment_type", ("SYNC", "ASYNC"), "SYNC") == "ASYNC"
        to_zero = fields.flag("scale_to_zero_enabled")
        is_scaled = not self._is_edit or bool((_REPLICAS | {"autoscale_config"}) & self._given)
        is_scaled = is_scaled and not (_REPLICAS | {"autoscale_config"}) & set(fields.wrong)
        if is_scaled and not given and (self.low, self.high) != (1, 1):
            fields.refuse("autoscale_config", "This field is required.")
        config = dict(given)
        if to_zero or ("scale_to_zero" in given and "scale_to_zero_enabled" in self._given):
            config["scale_to_zero"] = to_zero
        # `update-replicas` allows a rule without.
        needs_targets = bool(given) and "autoscale_config" in self._given
        found = AutoscaleConfig(config, is_async=is_async, needs_targets=needs_targets)
        for name, told in found.wrong.items():
            member = name == "scale_to_zero" and to_zero
            for message in told:
                fields.refuse("scale_to_zero_enabled" if member else "autoscale_config", message)
        if is_scaled and self.low == 0 and not found.has_cron:
            fields.refuse("min_pod_replicas", "0 is only allowed with cronScaling.")
        return found.policy if config else None

    def _others(self, fields: Fields) -> None:
        fields.flag("fast_scaleup")
        if fields.has("deployment_tag"):
            fields.text("deployment_tag")
        if fields.has("cluster") and canonical(self._body["cluster"]) is None:
            fields.refuse("cluster", NO_UUID)

    def _wrong(self, is_byoc: bool) -> dict[str, Any]:
        wrong: dict[str, Any] = dict(self._fields.wrong)
        given = self._body.get("nodegroups")
        if is_byoc and not (isinstance(given, list) and given):
            wrong["nodegroups"] = "List of node groups to be deployed on is expected"
        if self._is_edit:
            named = self._given | _CROSS | {*FIXED, "non_field_errors"}
            wrong = {name: told for name, told in wrong.items() if name in named}
        return wrong


class Network:
    """Ports and probe of replicas."""

    def __init__(self, ports: list[PortSpec], health: HealthCheck | None) -> None:
        self.ports = ports
        self.health = health


def gpus_of(image: Image) -> int:
    return image.needs.gpus if image.defaults.gpus is None else image.defaults.gpus


def _texts(env: Mapping[str, Any]) -> dict[str, str]:
    return {name: env_text(value) for name, value in env.items()}

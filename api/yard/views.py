"""How records look outside: what is internal is left out, what is not the caller's is masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, create_model

from pipeline.containers.observation import OVER
from schemas.access import Permission, Principal, Token, User
from schemas.base import Record
from schemas.container import Container, ContainerSpec, Volume
from schemas.deployment import Deployment, Template
from schemas.image import Build, Image
from schemas.node import Node
from schemas.organisation import Organisation
from schemas.webhook import Webhook, WebhookDelivery

_INTERNAL = frozenset({"outbox", "replayed", "cause", "traceparent", "request_hash"})
HIDDEN: Mapping[type[Record], frozenset[str]] = {
    Image: _INTERNAL
    | {"upload_told", "upload_told_at", "unregistered_at", "last_failure", "times_used"},
    Build: _INTERNAL | {"bases", "pull_key"},
    Container: _INTERNAL | {"pull_key", "delete_volumes"},
    Deployment: _INTERNAL | {"orders"},
    Node: _INTERNAL | {"leases", "held"},
    Organisation: _INTERNAL | {"holds", "times_held", "closing"},
    Token: _INTERNAL | {"secret_hash"},
    User: _INTERNAL | {"password_hash", "generation"},
    Volume: _INTERNAL,
    Webhook: _INTERNAL | {"secrets", "after", "turn"},
    WebhookDelivery: _INTERNAL,
}
"""Fields that no answer holds."""

MASK = "***"


def image_json(image: Image, caller: Principal) -> bytes:
    """What its containers get as environment, and what clients keep, is for those who may run it
    or bring images."""
    if not {Permission.CONTAINER_RUN, Permission.IMAGE_WRITE} & caller.permissions:
        env = dict.fromkeys(image.defaults.env, MASK)
        defaults = image.defaults.model_copy(update={"env": env})
        kept = dict.fromkeys(image.annotations, MASK)
        image = image.model_copy(update={"defaults": defaults, "annotations": kept})
    return _json(image)


def build_json(build: Build, caller: Principal) -> bytes:
    """Values of its arguments are for those who may build."""
    if Permission.IMAGE_BUILD not in caller.permissions:
        args = dict.fromkeys(build.spec.build_args, MASK)
        build = build.model_copy(
            update={"spec": build.spec.model_copy(update={"build_args": args})}
        )
    return _json(build)


def container_json(container: Container, caller: Principal) -> bytes:
    """Values of the environment, and the hash they are part of, are for those who may run it.

    What has ended holds nothing any more: what it asked for stands in its spec.
    """
    if container.status in OVER:
        container = container.model_copy(update={"ports": [], "gpus": []})
    if Permission.CONTAINER_RUN not in caller.permissions:
        spec = _concealed(container.spec)
        container = container.model_copy(update={"spec": spec, "spec_hash": MASK})
    return _json(container)


def deployment_json(deployment: Deployment, caller: Principal, *, gateway: str) -> bytes:
    """Values of environments are for those who may write deployments. `gateway` is its URL."""
    if Permission.DEPLOYMENT_WRITE not in caller.permissions:
        template, *history = map(_masked, (deployment.template, *deployment.history))
        kept = dict.fromkeys(deployment.annotations, MASK)
        masked = {"template": template, "history": history, "annotations": kept}
        deployment = deployment.model_copy(update=masked)
    shown = {**dict(deployment), "endpoint": f"{gateway}/{deployment.slug}/"}
    return DeploymentView.model_validate(shown).model_dump_json().encode()


def _masked(template: Template) -> Template:
    return template.model_copy(update={"spec": _concealed(template.spec)})


def _concealed(spec: ContainerSpec) -> ContainerSpec:
    """Values of the environment may be secrets, and so may be what signs a URL."""
    env = dict.fromkeys(spec.env, MASK)
    assets = [asset.model_copy(update={"url": MASK}) for asset in spec.assets]
    return spec.model_copy(update={"env": env, "assets": assets})


def node_json(node: Node, caller: Principal) -> bytes:
    """Which GPUs are in use, but not by whom: that may be another organisation."""
    shown = NodeView.model_validate({**dict(node), "held": sorted(node.held)})
    return shown.model_dump_json().encode()


def organisation_json(organisation: Organisation, caller: Principal) -> bytes:
    return _json(organisation)


def user_json(user: User, caller: Principal) -> bytes:
    return _json(user)


def webhook_json(webhook: Webhook, caller: Principal) -> bytes:
    return _json(webhook)


def delivery_json(delivery: WebhookDelivery, caller: Principal) -> bytes:
    return _json(delivery)


def token_json(token: Token, caller: Principal) -> bytes:
    return _json(token)


def volume_json(volume: Volume, caller: Principal) -> bytes:
    return _json(volume)


def _json(record: Record) -> bytes:
    return record.model_dump_json(exclude=set(HIDDEN[type(record)])).encode()


def _view(name: str, kind: type[Record], **instead: Any) -> type[BaseModel]:
    """The schema of what `_json` makes, for the documentation."""
    shown: dict[str, Any] = {
        field: (info.annotation, info)
        for field, info in kind.model_fields.items()
        if field not in HIDDEN[kind]
    }
    return create_model(name, __doc__=kind.__doc__, **shown, **instead)


ImageView = _view("Image", Image)
BuildView = _view("Build", Build)
ContainerView = _view("Container", Container)
DeploymentView = _view("Deployment", Deployment, endpoint=(str, ...))
NodeView = _view("Node", Node, held=(list[str], ...))
OrganisationView = _view("Organisation", Organisation)
UserView = _view("User", User)
TokenView = _view("Token", Token)
VolumeView = _view("Volume", Volume)
WebhookView = _view("Webhook", Webhook)
WebhookDeliveryView = _view("WebhookDelivery", WebhookDelivery)

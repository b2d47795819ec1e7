"""How records look outside: what is internal is left out, what is not the caller's is masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, create_model

from schemas.access import Permission, Principal, Token
from schemas.base import Record
from schemas.container import Container
from schemas.image import Image
from schemas.node import Node

_INTERNAL = frozenset({"outbox", "replayed"})
HIDDEN: Mapping[type[Record], frozenset[str]] = {
    Image: _INTERNAL | {"request_hash"},
    Container: _INTERNAL | {"request_hash"},
    Node: _INTERNAL | {"leases", "held"},
    Token: _INTERNAL | {"secret_hash"},
}
"""Fields that no answer holds."""

MASK = "***"


def image_json(image: Image, caller: Principal) -> bytes:
    return _json(image)


def container_json(container: Container, caller: Principal) -> bytes:
    """Values of the environment, and the hash they are part of, are for those who may run it."""
    if Permission.CONTAINER_RUN not in caller.permissions:
        env = dict.fromkeys(container.spec.env, MASK)
        spec = container.spec.model_copy(update={"env": env})
        container = container.model_copy(update={"spec": spec, "spec_hash": MASK})
    return _json(container)


def node_json(node: Node, caller: Principal) -> bytes:
    """Which GPUs are in use, but not by whom: that may be another organisation."""
    shown = NodeView.model_validate({**dict(node), "held": sorted(node.held)})
    return shown.model_dump_json().encode()


def token_json(token: Token, caller: Principal) -> bytes:
    return _json(token)


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
ContainerView = _view("Container", Container)
NodeView = _view("Node", Node, held=(list[str], ...))
TokenView = _view("Token", Token)

"""What automation of an organisation connects to the stack's own broker with."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel

from pipeline import topology
from pipeline.errors import Conflict, Misconfigured, NotFound
from pipeline.stack.pieces.nats import (
    SYSTEM_USER,
    inbox_prefix,
    may_publish,
    may_subscribe,
    org_user,
)
from pipeline.stack.state import Keys, State


class BrokerLogin(BaseModel):
    """A user of the broker, and what its permissions are."""

    org: str
    url: str
    """Without credentials."""
    user: str
    password: str
    inbox_prefix: str
    """On any other, answers do not arrive."""
    commands: str
    """Subject below which `<resource>.<verb>` is published."""
    events: str
    """Subject of all its events."""
    stream: str
    """In which past events are kept."""
    reader: str
    """The durable consumer from which they are fetched."""
    publish: list[str]
    subscribe: list[str]


def broker_login(state: State, org: str) -> BrokerLogin:
    """Of an organisation, by its slug, as the keys of the running stack have it. Reads files only.

    Raises Conflict when no stack runs from the folder, Misconfigured when its broker is not its
    own, NotFound for an organisation that has no user there, InvalidInput for what is no slug.
    """
    topology.token(org)
    if not state.is_running:
        raise Conflict(f"No stack runs from {state.folder}: `modelyard up` starts one.")
    keys = Keys.model_validate_json(state.keys_file.read_text())
    address = urlsplit(state.addresses.get("MODELYARD_NATS_URL", ""))
    if (address.username, address.password) != (SYSTEM_USER, keys.nats_password):
        raise Misconfigured(
            "The broker of this stack is not its own: who keeps that broker has its passwords."
        )
    if org not in keys.orgs:
        raise NotFound(f"The broker has no user for {org}: see `modelyard orgs list`.")
    return BrokerLogin(
        org=org,
        url=f"nats://{address.hostname}:{address.port}",
        user=org_user(org),
        password=keys.orgs[org],
        inbox_prefix=inbox_prefix(org),
        commands=f"yard.cmd.{org}",
        events=topology.events_of(org),
        stream=topology.EVENTS.name,
        reader=topology.org_reader(org).durable,
        publish=may_publish(org),
        subscribe=may_subscribe(org),
    )

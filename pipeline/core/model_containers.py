"""Containers of models: started through the same path as every other, and asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from pipeline.adapters.http_guard import Limits, Reply
from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.model_dialects import PROTOCOL_LABEL, Dialect
from pipeline.errors import NotFound, RegistryUnavailable, YardError
from pipeline.rules import model_protocols, model_requirements, placement
from pipeline.rules import roles as rights
from pipeline.rules.model_protocols import GRPC_PORT, ModelProtocol
from schemas.access import Principal, Role
from schemas.container import Container, ContainerSpec, PortSpec, Resources, RestartPolicy
from schemas.image import Image
from schemas.model import DEFAULT_INPUT, ModelVersion
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.containers import Containers
    from pipeline.core.logs import Logs

log = logging.getLogger(__name__)

PORT_VARIABLE: Final = "PSC_MODEL_PORT"
PORT: Final = 8080
"""Told to a model whose image exposes no port that every user may open."""
LOWEST_PORT: Final = 1024
SHUTDOWN_S: Final = 5
LOG_LINES: Final = 40
LOG_CHARACTERS: Final = 8192
LOG_S: Final = 5
IDENTIFIER_LABEL: Final = "model.identifier"
VERSION_LABEL: Final = "model.version"
PURPOSE_LABEL: Final = "model.purpose"


class ModelContainers:
    """Nothing is remembered between calls; containers are found by the key that made them."""

    def __init__(
        self,
        store: Store,
        containers: Containers,
        logs: Logs,
        dialects: Mapping[ModelProtocol, Dialect],
        *,
        node_grace_s: float,
        clock: records.Clock,
    ) -> None:
        """`dialects`: one for every protocol."""
        self._store = store
        self._containers = containers
        self._logs = logs
        self._dialects = dialects
        self._node_grace_s = node_grace_s
        self._clock = clock

    async def check_place(self, image: Image, spec: ContainerSpec) -> None:
        """Raises CannotPlace, or NoCapacity while waiting may help, before anything is pulled."""
        living = {"status": {"$ne": NodeStatus.DELETED.value}}
        nodes = await self._store.find(Node, org=EVERY_ORG, where=living, sort=[])
        wants = placement.request(spec, image)
        placement.plan(wants, nodes, now=self._clock(), grace_s=self._node_grace_s)

    async def run(self, caller: Principal, spec: ContainerSpec, key: str) -> Container:
        """Idempotent per `key`. Raises what `Containers.run` raises."""
        return await self._containers.run(caller, spec, key=key)

    async def read(self, org: str, key: str) -> Container | None:
        """The container that `key` made, deleted or not; None before it was made."""
        return await self.find(org, records.id_for(org, Container.resource, key))

    async def find(self, org: str, uuid: str) -> Container | None:
        try:
            return await self._store.get(Container, uuid, org=org)
        except NotFound:
            return None

    async def remove(self, caller: Principal, uuid: str) -> bool:
        """Have it removed; True when it is gone. Idempotent."""
        container = await self.find(caller.org, uuid)
        if container is None or container.status is Status.DELETED:
            return True
        changed = await self._containers.delete(caller, uuid)
        return changed.status is Status.DELETED

    async def node_name(self, container: Container) -> str | None:
        if container.node is None:
            return None
        return (await self._store.get(Node, container.node, org=EVERY_ORG)).name

    async def address(self, container: Container) -> str:
        """Where the model listens, `http://host:port`. Raises NotFound when it has no port."""
        return await address_of(self._store, container)

    async def status(self, container: Container, *, limits: Limits) -> Reply:
        """Ask the model how it is. Raises RegistryUnavailable when there is no answer."""
        address = await self.address(container)
        return await self.dialect(container).status(address, limits=limits)

    async def ask(
        self, container: Container, body: bytes, *, name: str = DEFAULT_INPUT, limits: Limits
    ) -> Reply:
        """Have the model run `body`, its input `name` where inputs have names.

        Raises RegistryUnavailable when there is no answer.
        """
        address = await self.address(container)
        return await self.dialect(container).run(address, body, name=name, limits=limits)

    async def shut_down(self, container: Container) -> str | None:
        """Ask the model to end; None when it agreed, else why not. Never raises for the model."""
        limits = Limits(total_s=SHUTDOWN_S, body_max_bytes=4096, redirects=0)
        try:
            address = await self.address(container)
            reply = await self.dialect(container).shutdown(address, limits=limits)
        except (RegistryUnavailable, NotFound) as error:
            return error.message
        return None if 200 <= reply.status < 300 else f"The shutdown was answered {reply.status}."

    def dialect(self, container: Container) -> Dialect:
        told = container.spec.labels.get(PROTOCOL_LABEL, ModelProtocol.REST)
        return self._dialects[ModelProtocol(told)]

    async def last_lines(self, caller: Principal, container: Container) -> str:
        """What it wrote last, or why that cannot be told."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(LOG_S):
                reading: Any = self._logs.read(caller, container.uuid, tail=LOG_LINES)
                async with aclosing(reading) as entries:
                    async for entry in entries:
                        lines.append(entry.text)
        except TimeoutError:
            lines.append("(the rest of the log did not come in time)")
        except YardError as error:
            return f"(the log cannot be read: {error.message})"
        return "".join(lines)[-LOG_CHARACTERS:] or "(the container wrote nothing)"


def spec_for(
    version: ModelVersion, image: Image, *, requirement: int, purpose: str
) -> ContainerSpec:
    """The same for the same image and requirement, so that a repeated launch is the same one."""
    found = model_requirements.find(requirement)
    protocol = model_protocols.of_image(image)
    port = next((port for port in image.needs.ports if port >= LOWEST_PORT), PORT)
    if protocol is ModelProtocol.GRPC:
        port = GRPC_PORT
    return ContainerSpec(
        image=image.uuid,
        env={PORT_VARIABLE: str(port)},
        ports=[PortSpec(internal=port)],
        gpus=found.gpus,
        resources=Resources(cpus=found.cpus, memory_bytes=found.memory_bytes),
        labels={
            IDENTIFIER_LABEL: version.model,
            VERSION_LABEL: version.version,
            PURPOSE_LABEL: purpose,
            PROTOCOL_LABEL: protocol.value,
        },
        restart=RestartPolicy.NO,
    )


async def address_of(store: Store, container: Container) -> str:
    """Where a model listens, as the platform reaches it: `http://host:port`.

    Raises NotFound when it has no port.
    """
    port = model_port(container.spec)
    bound = next((each for each in container.ports if each.internal == port), None)
    if bound is None or container.node is None:
        raise NotFound(f"Port {port} of container {container.name} is not published.")
    node = await store.get(Node, container.node, org=EVERY_ORG)
    host = f"[{node.address}]" if ":" in node.address else node.address
    return f"http://{host}:{bound.host}"


def model_port(spec: ContainerSpec) -> int:
    """Where a model listens: what it was told, else the first port that it publishes."""
    told = spec.env.get(PORT_VARIABLE, "")
    if told.isdecimal():
        return int(told)
    return spec.ports[0].internal if spec.ports else PORT


def acting_for(org: str, id: str | None) -> Principal:
    """A member of the organisation, on whose behalf a worker goes on with what he asked for."""
    held = frozenset({Role.MEMBER})
    return Principal(
        id=id or "worker:models",
        org=org,
        name="models",
        roles=held,
        permissions=rights.permissions(held, own=False),
    )


def is_json_object(reply: Reply) -> bool:
    if reply.is_truncated:
        return False
    try:
        return isinstance(json.loads(reply.body), dict)
    except (ValueError, RecursionError):
        return False


def media_type(reply: Reply) -> str:
    return str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()

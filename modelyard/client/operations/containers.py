"""Operations: containers.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import httpx

from modelyard.client.blocking import Sender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.calls import Content
    from modelyard.client.types.common import ContainerSpec
    from modelyard.client.types.containers import (
        Container,
        ContainerStatus,
        ContainerUse,
        ExecEnd,
        ExecOutput,
        ExecSpec,
        LogEntry,
        Volume,
    )


class Containers(Sender):
    """Containers."""

    def run_container(
        self, body: ContainerSpec, *, wait: float | None = None, idempotency_key: str | None = None
    ) -> Container:
        """Run a READY image on a node that fits it. It is recorded at once, then placed and
        launched."""
        found: Container = self._json(
            Call(
                "POST",
                "/yard/v1/containers",
                query={"wait": wait},
                headers={"Idempotency-Key": idempotency_key},
                body=body,
            )
        )
        return found

    def list_containers(
        self,
        *,
        limit: int | None = None,
        status: ContainerStatus | None = None,
        name: str | None = None,
        image: str | None = None,
        node: str | None = None,
        deployment: str | None = None,
    ) -> Iterator[Container]:
        """Containers of the organisation, newest first. Deleted ones appear when asked for."""
        return self._pages(
            Call(
                "GET",
                "/yard/v1/containers",
                query={
                    "status": status,
                    "name": name,
                    "image": image,
                    "node": node,
                    "deployment": deployment,
                },
            ),
            limit,
        )

    def find_container(self, *, called: str) -> Container:
        """The container of this uuid, or beginning of one, or name."""
        found: Container = self._json(
            Call("GET", "/yard/v1/containers/find", query={"called": called})
        )
        return found

    def get_container(self, uuid: str) -> Container:
        """One container: where it runs, its ports, its GPUs, and the reason for its state."""
        found: Container = self._json(Call("GET", "/yard/v1/containers/{}", (uuid,)))
        return found

    def delete_container(
        self,
        uuid: str,
        *,
        volumes: bool | None = None,
        wait: float | None = None,
        if_match: str | None = None,
    ) -> Container:
        """Stop and remove a container, whatever its state. A repeat does nothing."""
        found: Container = self._json(
            Call(
                "DELETE",
                "/yard/v1/containers/{}",
                (uuid,),
                query={"volumes": volumes, "wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def replace_container(
        self,
        uuid: str,
        body: ContainerSpec,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> Container:
        """Have a new container take the place of this one, on its node and, unless it has
        another name, by its name. It is made beside it; once it runs, and is healthy where it
        has a health check, the old one goes. Whatever fails leaves the old one as it was, and
        nothing of the new one."""
        found: Container = self._json(
            Call(
                "POST",
                "/yard/v1/containers/{}/replace",
                (uuid,),
                query={"wait": wait},
                headers={"Idempotency-Key": idempotency_key, "if-match": if_match},
                body=body,
            )
        )
        return found

    def stop_container(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Container:
        """Stop a container and keep it. It is not restarted. A repeat does nothing."""
        found: Container = self._json(
            Call(
                "POST",
                "/yard/v1/containers/{}/stop",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def start_container(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Container:
        """Run a container again that has stopped, failed or lost its node. A repeat does
        nothing."""
        found: Container = self._json(
            Call(
                "POST",
                "/yard/v1/containers/{}/start",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def restart_container(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Container:
        """Stop a container and start it again on its node; start one that has stopped or failed."""
        found: Container = self._json(
            Call(
                "POST",
                "/yard/v1/containers/{}/restart",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def get_stats(self, uuid: str) -> ContainerUse:
        """What one container uses; what is `null` was not measured yet."""
        found: ContainerUse = self._json(Call("GET", "/yard/v1/containers/{}/stats", (uuid,)))
        return found

    def list_stats(self, *, limit: int | None = None) -> Iterator[ContainerUse]:
        """CPUs, memory, network and GPUs that the containers use which run; newest first."""
        return self._pages(Call("GET", "/yard/v1/stats"), limit)

    def call_container(
        self,
        uuid: str,
        content: Content,
        *,
        timeout: float | None = None,
        content_type: str = "application/json",
    ) -> AbstractContextManager[httpx.Response]:
        """Pass a call on to the `POST /run` of a container that runs."""
        return self._passed(
            Call(
                "POST",
                "/yard/v1/containers/{}/run",
                (uuid,),
                query={"timeout": timeout},
                content=content,
                content_type=content_type,
            )
        )

    def read_logs(
        self,
        uuid: str,
        *,
        tail: int | None = None,
        since: str | None = None,
        follow: bool | None = None,
    ) -> Iterator[LogEntry]:
        """Output of a container, read from the node that runs it; where that is away or the
        container is deleted, what is kept of it, without control characters."""
        return self._entries(
            Call(
                "GET",
                "/yard/v1/containers/{}/logs",
                (uuid,),
                query={"tail": tail, "since": since, "follow": follow},
            )
        )

    def run_command(self, uuid: str, body: ExecSpec) -> Iterator[ExecOutput | ExecEnd]:
        """Run a command in a container that runs, and pass on what it writes while it writes it."""
        return self._entries(Call("POST", "/yard/v1/containers/{}/exec", (uuid,), body=body))

    def list_volumes(self, *, limit: int | None = None) -> Iterator[Volume]:
        """Volumes with the name of the containers that get them, and their node; newest first."""
        return self._pages(Call("GET", "/yard/v1/volumes"), limit)

    def delete_volume(self, uuid: str) -> Volume:
        """Have its node remove it, with what is in it. Its container must be gone. Idempotent."""
        found: Volume = self._json(Call("DELETE", "/yard/v1/volumes/{}", (uuid,)))
        return found

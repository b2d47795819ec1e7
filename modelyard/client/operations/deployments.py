"""Operations: deployments.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelyard.client.blocking import Sender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.types.deployments import (
        Deployment,
        DeploymentEdit,
        DeploymentSpec,
        DeploymentStatus,
        Rollback,
        Scale,
        ScalingLook,
    )


class Deployments(Sender):
    """Deployments."""

    def create_deployment(
        self, body: DeploymentSpec, *, wait: float | None = None, idempotency_key: str | None = None
    ) -> Deployment:
        """Keep replicas of a READY image answering: what ends is replaced, an edit rolls."""
        found: Deployment = self._json(
            Call(
                "POST",
                "/yard/v1/deployments",
                query={"wait": wait},
                headers={"Idempotency-Key": idempotency_key},
                body=body,
            )
        )
        return found

    def list_deployments(
        self,
        *,
        limit: int | None = None,
        status: DeploymentStatus | None = None,
        name: str | None = None,
    ) -> Iterator[Deployment]:
        """Deployments of the organisation, newest first. Deleted ones appear when asked for."""
        return self._pages(
            Call("GET", "/yard/v1/deployments", query={"status": status, "name": name}), limit
        )

    def find_deployment(self, *, called: str) -> Deployment:
        """The deployment of this uuid, or beginning of one, or name."""
        found: Deployment = self._json(
            Call("GET", "/yard/v1/deployments/find", query={"called": called})
        )
        return found

    def get_deployment(self, uuid: str) -> Deployment:
        """One deployment: its template and earlier ones, how many replicas are ready, and why
        not."""
        found: Deployment = self._json(Call("GET", "/yard/v1/deployments/{}", (uuid,)))
        return found

    def edit_deployment(
        self,
        uuid: str,
        body: DeploymentEdit,
        *,
        wait: float | None = None,
        if_match: str | None = None,
    ) -> Deployment:
        """Change what is given. Another template rolls out: a new replica is ready before an old
        one ends, and the last good template returns when the new one does not become ready in
        time."""
        found: Deployment = self._json(
            Call(
                "PATCH",
                "/yard/v1/deployments/{}",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

    def delete_deployment(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Deployment:
        """End its replicas, then the deployment. A repeat does nothing."""
        found: Deployment = self._json(
            Call(
                "DELETE",
                "/yard/v1/deployments/{}",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def get_scaling(self, uuid: str) -> ScalingLook:
        """What autoscaling sees at this moment, what each target alone wants, and what comes of
        it before windows and steps. 404 for a deployment without a rule."""
        found: ScalingLook = self._json(Call("GET", "/yard/v1/deployments/{}/scaling", (uuid,)))
        return found

    def scale_deployment(
        self, uuid: str, body: Scale, *, wait: float | None = None, if_match: str | None = None
    ) -> Deployment:
        """Want so many replicas now, within `min_replicas` and `max_replicas`."""
        found: Deployment = self._json(
            Call(
                "POST",
                "/yard/v1/deployments/{}/scale",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

    def start_deployment(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Deployment:
        """Want its replicas again. A repeat does nothing."""
        found: Deployment = self._json(
            Call(
                "POST",
                "/yard/v1/deployments/{}/start",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def stop_deployment(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Deployment:
        """Want no replicas until it is started. A repeat does nothing."""
        found: Deployment = self._json(
            Call(
                "POST",
                "/yard/v1/deployments/{}/stop",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def restart_deployment(
        self, uuid: str, *, wait: float | None = None, if_match: str | None = None
    ) -> Deployment:
        """Make all replicas anew, one after the other."""
        found: Deployment = self._json(
            Call(
                "POST",
                "/yard/v1/deployments/{}/restart",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
            )
        )
        return found

    def roll_back_deployment(
        self, uuid: str, body: Rollback, *, wait: float | None = None, if_match: str | None = None
    ) -> Deployment:
        """Return to an earlier template, which rolls out like an edit."""
        found: Deployment = self._json(
            Call(
                "POST",
                "/yard/v1/deployments/{}/rollback",
                (uuid,),
                query={"wait": wait},
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

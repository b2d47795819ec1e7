"""What clients of imported containers are told of deployments."""

from __future__ import annotations

from api.imported_containers.deployment_views import health
from schemas.states import DeploymentStatus
from tests.support import records as made


def test_health_has_a_word_for_every_state() -> None:
    now = made.deployment()
    seen = {
        status: health(now.model_copy(update={"status": status})).data
        for status in DeploymentStatus
    }
    assert seen == {
        DeploymentStatus.DEPLOYING: "Initializing",
        DeploymentStatus.DEPLOYED: "Healthy",
        DeploymentStatus.DEGRADED: "Unhealthy",
        DeploymentStatus.FAILED: "Unhealthy",
        DeploymentStatus.SCALED_DOWN: "SCALED_DOWN",
        DeploymentStatus.DELETING: "Unknown",
        DeploymentStatus.DELETED: "Unknown",
    }
    for status in (DeploymentStatus.DEPLOYING, DeploymentStatus.DEGRADED):
        waits = {"status": status, "replace_at": made.after(20), "good": "hash-1"}
        assert health(now.model_copy(update=waits)).data == "Missing"

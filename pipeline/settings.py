"""Every setting, read once from `MODELYARD_*` and passed down from there."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Names are the environment variables without `MODELYARD_`. Durations end in `_s`."""

    model_config = SettingsConfigDict(env_prefix="MODELYARD_", extra="ignore")

    # where things are
    state: Path = Path(".modelyard")
    nats_url: str = "nats://127.0.0.1:4222"
    """Several servers are separated by commas."""
    nats_replicas: int = Field(default=1, ge=1, le=5)
    """How many servers of a cluster keep each stream, from when the stream is made: 3 of three."""
    mongo_url: str = "mongodb://127.0.0.1:27017"
    mongo_database: str = "modelyard"
    registry: str = "127.0.0.1:5000"
    """The platform's own OCI registry, `host:port`."""
    docker_host: str = ""
    """Empty: the environment's DOCKER_HOST, then the default socket."""
    url: str = "http://127.0.0.1:8000"
    api_host: str = "127.0.0.1"
    api_port: int = 8000
    metrics_open: bool = False
    """Lets anybody who reaches the API read `/metrics`; otherwise a token with `node:view` does."""
    access_log: bool = False
    drain_s: float = Field(default=10, ge=1)
    """How long a stopping process finishes what is in flight."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port on which a worker or an agent answers scrapes of Prometheus; 0: on none."""
    metrics_host: str = "127.0.0.1"
    nats_port: int = 4222
    """Of the embedded stack, as are `mongo_port` and `registry_port`."""
    mongo_port: int = 27017
    registry_port: int = 5000

    # keys
    signing_key: SecretStr = SecretStr("")
    """Signs tokens (HS256); at least 32 bytes."""
    encryption_keys: SecretStr = SecretStr("")
    """Comma-separated `id:base64(32 bytes)`; the first encrypts, all decrypt."""
    admin_user: str = "admin"
    admin_password: SecretStr = SecretStr("")
    org_id: str = "default"
    token: SecretStr = SecretStr("")
    """Used by the command line."""
    access_token_s: int = 300
    refresh_token_s: int = 8 * 3600
    login_failures_per_minute: int = Field(default=30, ge=30)
    """Per user and address; clients that try a wrong password several times must not be cut off."""

    # the network guard
    allow_private_addresses: bool = False
    """On in the local stack: private and loopback addresses may be contacted for users."""
    insecure_registries: str = ""
    """Comma-separated hosts that may be spoken to over plain HTTP besides loopback."""

    docker_hub_registry: str = "registry-1.docker.io"
    """Server of `docker_hub` secrets that name none."""
    depot_registry: str = "registry.depot.dev"
    """Server of `depot` secrets that name none."""

    host_platform: str = "linux/amd64"
    """Chosen from a multi-platform image when nobody asks for one: what the nodes are."""

    # workers
    installation: str = "modelyard"
    """Label that marks our containers on an engine; one value per installation."""
    sweep_interval_s: float = 5
    sweep_age_s: float = 5
    """How old an unsent message must be before the sweep sends it."""
    stuck_after_s: float = 60
    """A record that waits for a command this long gets the command again."""
    validation_timeout_s: float = 60
    wait_max_s: float = 300

    # nodes
    node_name: str = ""
    """Empty: the host name."""
    node_address: str = "127.0.0.1"
    node_labels: str = ""
    """Comma-separated `key=value`."""
    container_bind: str = "127.0.0.1"
    heartbeat_interval_s: float = 5
    node_grace_s: float = 20
    """Without a heartbeat for this long a node is lost."""
    reconcile_interval_s: float = 30
    simulated_gpus: str = ""
    """For instance `8xH100-80GB`, or `2xA100-40GB,1xT4-16GB`."""
    simulated_driver: str = "570.133.20"
    simulated_cuda: str = "12.8"
    """Driver and CUDA version that go with the simulated GPUs."""
    pull_stall_s: float = 60
    """A pull that receives nothing for this long fails with `pull_failed`."""
    stop_grace_s: int = 10
    restart_backoff_s: float = 10
    restart_backoff_max_s: float = 300
    restart_reset_s: float = 600

    # limits
    body_max_bytes: int = 1024 * 1024
    manifest_max_bytes: int = 4 * 1024 * 1024
    event_buffer_frames: int = Field(default=1024, ge=16)
    """Frames that one slow reader may fall behind before it is cut off."""
    log_level: str = "INFO"

    @cached_property
    def insecure_hosts(self) -> frozenset[str]:
        return frozenset(h.strip() for h in self.insecure_registries.split(",") if h.strip())

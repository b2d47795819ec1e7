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
    """Folder of the local stack: keys, data, logs, and what clients need in `env`."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Several servers are separated by commas."""
    nats_replicas: int = Field(default=1, ge=1, le=5)
    """How many servers of a cluster keep each stream, from when the stream is made: 3 of three."""
    mongo_url: str = "mongodb://127.0.0.1:27017"
    """Address of MongoDB with credentials."""
    mongo_database: str = "modelyard"
    """Database that holds all records."""
    registry: str = "127.0.0.1:5000"
    """The platform's own OCI registry, `host:port`."""
    docker_host: str = ""
    """Empty: the environment's DOCKER_HOST, then the default socket."""
    url: str = "http://127.0.0.1:8000"
    """Where clients reach the server."""
    report_url: str = ""
    """Where callers of `/api` may report an error; empty: the documentation."""
    api_host: str = "127.0.0.1"
    """Address that the server binds."""
    api_port: int = 8000
    """Port that the server binds."""
    metrics_open: bool = False
    """Lets anybody who reaches the API read `/metrics`; otherwise a token with `node:view` does."""
    access_log: bool = False
    """Write a log line for every request."""
    drain_s: float = Field(default=10, ge=1)
    """How long a stopping process finishes what is in flight."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port on which a worker or an agent answers scrapes of Prometheus; 0: on none."""
    metrics_host: str = "127.0.0.1"
    """Address that the metrics port of workers and agents binds."""
    alive_file: str = ""
    """A worker touches this file every few seconds while broker and store answer it; empty:
    none."""
    nats_port: int = 4222
    """Of the embedded stack, as are `mongo_port` and `registry_port`."""
    mongo_port: int = 27017
    """Port of the local stack's MongoDB."""
    registry_port: int = 5000
    """Port of the local stack's registry."""

    # keys
    signing_key: SecretStr = SecretStr("")
    """Signs tokens (HS256); at least 32 bytes."""
    encryption_keys: SecretStr = SecretStr("")
    """Comma-separated `id:base64(32 bytes)`; the first encrypts, all decrypt."""
    admin_user: str = "admin"
    """Name of the first administrator."""
    admin_password: SecretStr = SecretStr("")
    """Password of the first administrator; there is no default one."""
    org_id: str = "default"
    """Organisation that the installation itself belongs to."""
    token: SecretStr = SecretStr("")
    """Used by the command line."""
    access_token_s: int = 300
    """Life of a login's access token."""
    refresh_token_s: int = 8 * 3600
    """Life of a login's refresh token."""
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
    """How often workers look for what messages did not do."""
    sweep_age_s: float = 5
    """How old an unsent message must be before the sweep sends it."""
    stuck_after_s: float = 60
    """A record that waits for a command this long gets the command again."""
    validation_timeout_s: float = 60
    """After this an image whose registry does not answer has failed."""
    link_timeout_s: float = Field(default=25, gt=0, le=28)
    """A registry that is linked on `/api` and cannot be reached for this long fails the delivery;
    callers are promised an answer within 30 s."""
    load_wait_s: float = Field(default=60, gt=0)
    """How long the load test of a model waits for a node that is free."""
    serve_idle_s: float = Field(default=900, gt=0)
    """A container that answers calls of a model is ended when it had none for this long."""
    call_timeout_s: float = Field(default=300, gt=0)
    """Longest time for one call that is passed on to a container, to the last byte of its
    answer."""
    run_output_max_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    """Of everything that a model writes in a trial run, and of its answer to a call."""
    model_file_max_bytes: int = Field(default=10 * 1024 * 1024, ge=1, le=12 * 1024 * 1024)
    """Of a test input or picture of a model."""
    wait_max_s: float = 300
    """Longest `wait` that a caller may ask for."""
    registry_check_interval_s: float = Field(default=300, gt=0)
    """How often a registry of the directory is looked at."""
    registry_check_backoff_max_s: float = Field(default=3600, gt=0)
    """One that keeps failing is looked at this seldom."""
    registry_health_wait_s: float = Field(default=10, gt=0)
    """How long a caller who asks for a check waits for a worker's answer."""

    # nodes
    node_name: str = ""
    """Empty: the host name."""
    node_address: str = "127.0.0.1"
    """Where published ports of this node are reached."""
    node_labels: str = ""
    """Comma-separated `key=value`."""
    container_bind: str = "127.0.0.1"
    """Address that containers' ports are published on."""
    heartbeat_interval_s: float = 5
    """How often an agent says that its node is alive."""
    node_grace_s: float = 20
    """Without a heartbeat for this long a node is lost."""
    reconcile_interval_s: float = 30
    """How often an agent compares all containers with the store."""
    simulated_gpus: str = ""
    """For instance `8xH100-80GB`, or `2xA100-40GB,1xT4-16GB`."""
    simulated_driver: str = "570.133.20"
    """Driver version that simulated GPUs claim."""
    simulated_cuda: str = "12.8"
    """Driver and CUDA version that go with the simulated GPUs."""
    pull_stall_s: float = 60
    """A pull that receives nothing for this long fails with `pull_failed`."""
    stop_grace_s: int = 10
    """Time between SIGTERM and SIGKILL of a container."""
    restart_backoff_s: float = 10
    """Wait before the first restart of a container; each further one doubles."""
    restart_backoff_max_s: float = 300
    """Longest wait before a restart."""
    restart_reset_s: float = 600
    """Health of this length makes the next wait the first one again."""

    # limits
    body_max_bytes: int = 1024 * 1024
    """Largest request body that is no upload."""
    request_silence_s: float = Field(default=30, gt=0)
    """The head of a request is here within this time, and of a body that is no upload a piece at
    least this often; else the answer is 408, or the connection is closed."""
    filter_body_max_bytes: int = Field(default=64 * 1024, ge=2)
    """Of a search of the registry directory."""
    filter_depth_max: int = Field(default=10, ge=1, le=50)
    """Operators and values inside one another in such a search."""
    filter_elements_max: int = Field(default=100, ge=1)
    """In each list of such a search."""
    filter_pattern_max_chars: int = Field(default=256, ge=1)
    """Of a regular expression in such a search."""
    search_time_s: float = Field(default=2, gt=0, le=3)
    """What one such search may take of the store's time."""
    manifest_max_bytes: int = 4 * 1024 * 1024
    """Largest manifest or configuration read from a registry."""
    upload_max_bytes: int = Field(default=128 * 1024**3, ge=1)
    """Of one image archive as it is sent."""
    upload_max_expanded_bytes: int = Field(default=512 * 1024**3, ge=1)
    """Of one image archive when it and its layers are opened."""
    upload_stall_s: float = Field(default=60, gt=0)
    """A sender of an archive who sends nothing for this long is given up."""
    upload_silence_s: float = Field(default=15, gt=0)
    """A piece of a resumable upload that is silent for this long is closed; its bytes are kept."""
    upload_expiry_s: float = Field(default=24 * 3600, gt=0)
    """A resumable upload that nobody continues is forgotten after this."""
    event_buffer_frames: int = Field(default=1024, ge=16)
    """Frames that one slow reader may fall behind before it is cut off."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    @cached_property
    def insecure_hosts(self) -> frozenset[str]:
        return frozenset(h.strip() for h in self.insecure_registries.split(",") if h.strip())

"""Every setting, read once from `MODELYARD_*` and passed down from there."""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Browsers leave the port out where the scheme implies it.
_ORIGIN = re.compile(
    r"(https://(?!.*:443$)|http://(?!.*:80$))([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Settings(BaseSettings):
    """Names are the environment variables without `MODELYARD_`. Durations end in `_s`."""

    model_config = SettingsConfigDict(
        env_prefix="MODELYARD_", extra="ignore", populate_by_name=True
    )

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
    gateway_url: str = "http://127.0.0.1:8088"
    """Where callers of deployments reach the gateway."""
    gateway_bind: str = "127.0.0.1:8088"
    """`address:port` that HAProxy binds."""
    gateway_activators: str = "127.0.0.1:8000"
    """Comma-separated `host:port` of the servers that wake a deployment without a replica; empty:
    its calls are refused meanwhile."""
    gateway_folder: Path = Path("/run/modelyard-gateway")
    """Configuration and sockets of the gateway's HAProxy; a short path, its owner's only."""
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
    cors_origins: str = ""
    """Comma-separated origins (`https://app.example`) whose pages may call the server from a
    browser; empty: none but its own."""
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
    traces_endpoint: str = ""
    """An OTLP receiver that spans are sent to by HTTP, as `http://127.0.0.1:4318/v1/traces`; empty:
    none are recorded. `OTEL_TRACES_SAMPLER` and `OTEL_EXPORTER_OTLP_HEADERS` count, too."""
    alive_file: str = ""
    """A worker touches this file every few seconds while broker and store answer it; empty:
    none."""
    nats_port: int = 4222
    """Of the embedded stack, as are `mongo_port`, `registry_port` and `gateway_port`."""
    gateway_port: int = 8088
    """Port of the local stack's gateway."""
    mongo_port: int = 27017
    """Port of the local stack's MongoDB."""
    registry_port: int = 5000
    """Port of the local stack's registry."""

    # keys
    signing_key: SecretStr = SecretStr("")
    """Signs tokens (HS256); at least 32 bytes."""
    registry_keys: SecretStr = SecretStr("")
    """Comma-separated P-256 keys, PKCS #8 in base64: with the first one API and workers make the
    tokens that the platform's registry wants. Agents need none. Empty: it asks nobody who he is,
    and whoever reaches it reads and writes what all organisations have there."""
    encryption_keys: SecretStr = SecretStr("")
    """Comma-separated `id:base64(32 bytes)`; the first encrypts, all decrypt."""
    admin_user: str = "admin"
    """Name of the first administrator."""
    admin_password: SecretStr = SecretStr("")
    """Password of the first administrator; there is no default one."""
    org: str = Field(
        default="default", validation_alias=AliasChoices("MODELYARD_ORG", "MODELYARD_ORG_ID")
    )
    """Slug of the organisation that the installation itself belongs to. Its UUID, which clients are
    told as `MODELYARD_ORG_ID`, follows from that."""
    token: SecretStr = SecretStr("")
    """Used by the command line."""
    access_token_s: int = 300
    """Life of a login's access token."""
    refresh_token_s: int = 8 * 3600
    """Life of a login's refresh token."""
    login_failures_per_minute: int = Field(default=30, ge=30)
    """Of one account, from wherever they come; an address that it logged in from within 30 days
    is counted by itself. Clients that try a wrong password several times must not be cut off."""
    login_failures_per_address_per_minute: int = Field(default=120, ge=30)
    """Of one address (of IPv6: a /64), whatever accounts it tries."""
    trusted_proxies: str = ""
    """Comma-separated addresses and networks of the proxies in front of the server. Only they are
    believed when they name a caller (X-Forwarded-For) or scheme (X-Forwarded-Proto); empty: nobody
    is."""

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
    """How long a model waits for a node that is free: its load test, and (at least 10 s) its
    calls."""
    serve_idle_s: float = Field(default=900, ge=1, le=7 * 86400)
    """A container that answers calls of a model is ended when it had none for this long."""
    activation_wait_s: float = Field(default=120, gt=0)
    """How long a call waits for the first replica of a deployment."""
    activation_waiting_max: int = Field(default=200, ge=1)
    """Calls that may wait so in one server at the same time."""
    call_timeout_s: float = Field(default=300, gt=0)
    """Longest time for one call that is passed on to a container, to the last byte of its
    answer."""
    model_cookies: bool = False
    """Pass on the cookies that models set in their answers to calls of containers."""
    run_output_max_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    """Of everything that a model writes in a trial run, and of its answer to a call."""
    model_file_max_bytes: int = Field(default=10 * 1024 * 1024, ge=1, le=12 * 1024 * 1024)
    """Of a test input or picture of a model."""
    verdict_wait_s: float = Field(default=20, gt=0)
    """How long clients of imported containers wait for a worker's verdict on an image, or for the
    end of a deployment; it goes on after that."""
    wait_max_s: float = 300
    """Longest `wait` that a caller may ask for."""
    registry_check_interval_s: float = Field(default=300, gt=0)
    """How often a registry of the directory is looked at."""
    registry_check_backoff_max_s: float = Field(default=3600, gt=0)
    """One that keeps failing is looked at this seldom."""
    registry_health_wait_s: float = Field(default=10, gt=0)
    """How long a caller who asks for a check waits for a worker's answer."""

    registry_collect_interval_s: float = Field(default=24 * 3600, gt=0)
    """How often the stack gives back what nothing refers to in the registry that it runs; pushes
    wait meanwhile."""
    registry_folder: str = ""
    """Storage of the platform's registry, for workers to collect its space, where
    `deploy/registry/serve.sh` runs it; empty: others do that."""

    # webhooks
    webhook_timeout_s: float = Field(default=10, gt=0, le=60)
    """What the receiver of a webhook may take for one answer."""
    webhook_retries_s: str = "5,60,300,1800,7200,18000,36000,36000"
    """Comma-separated waits between the tries of one delivery; after the last it is given up."""
    webhook_kept_s: float = Field(default=7 * 24 * 3600, gt=0)
    """How long deliveries can be looked at and sent again."""

    # autoscaling
    figures_interval_s: float = Field(default=2, gt=0, le=30)
    """How often a gateway says how much its deployments are called."""
    samples_interval_s: float = Field(default=10, gt=0, le=60)
    """How often an agent measures what its containers use."""
    autoscale_interval_s: float = Field(default=5, gt=0, le=300)
    """How often workers look whether deployments need more replicas, or fewer."""

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
    placement_patience_s: float = Field(default=60, ge=0)
    """For a container that has waited this long for room, a node is kept until it has enough:
    others of its priority or a lower one are placed elsewhere."""
    reconcile_interval_s: float = 30
    """How often an agent compares all containers with the store."""
    simulated_gpus: str = ""
    """For instance `8xH100-80GB`, or `2xA100-40GB,1xT4-16GB`."""
    simulated_gpu_use: float = Field(default=0, ge=0, le=100)
    """Percent of time and memory that simulated GPUs claim to be used."""
    simulated_driver: str = "570.133.20"
    """Driver version that simulated GPUs claim."""
    simulated_cuda: str = "12.8"
    """Driver and CUDA version that go with the simulated GPUs."""
    progress_interval_s: float = 1
    """Between two events of one pull, upload or load that only tell progress; the record is
    newer."""
    pull_stall_s: float = 60
    """A pull that receives nothing for this long fails with `pull_failed`."""
    asset_folder: Path | None = None
    """Where files that containers are given are kept, as the engine sees it too. Empty: `assets` in
    the state folder."""
    asset_allow: str = ""
    """Hosts, addresses and networks (CIDR), separated by commas, from which such files may be
    fetched although they are loopback or private ones."""
    asset_max_bytes: int = Field(default=200 * 1024**3, ge=1)
    """Of one such file."""
    asset_cache_max_bytes: int = Field(default=500 * 1024**3, ge=1)
    """Of all such files of a node; what was used longest ago goes first, but not what a container
    has."""
    log_max_bytes: int = Field(default=64 * 1024**2, ge=64 * 1024)
    """Of what one container wrote, in all its runs; what came first goes first."""
    log_max_age_days: float = Field(default=7, gt=0, le=3650)
    """What containers wrote is kept for this long, also when they are gone."""
    build_roots: str = ""
    """Comma-separated folders of this node below which builds may find their contexts; whoever may
    build reads what lies there. Empty: none."""
    build_folder: Path | None = None
    """Where contexts are kept while they are built. Empty: `builds` in the state folder."""
    build_context_max_bytes: int = Field(default=8 * 1024**3, ge=1)
    """Of one context, opened, without what its `.dockerignore` leaves out."""
    build_timeout_s: float = Field(default=1800, gt=0)
    """A build that takes longer has failed."""
    build_memory_max_bytes: int = Field(default=8 * 1024**3, ge=4 * 1024**2)
    """Of one step of a build."""
    build_cpus: float = Field(default=2, gt=0)
    """That one step of a build may use."""
    builds_at_once: int = Field(default=2, ge=1, le=16)
    """Of one node; further ones wait."""
    build_output_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Of the output of one build that is told; of what comes after it only the end."""
    build_max_age_days: float = Field(default=30, gt=0, le=3650)
    """Builds that are over are listed for this long; their images stay."""
    audit_max_age_days: float = Field(default=365, gt=0, le=36_500)
    """Who did what, and from where, is kept for this long."""
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
    """Frames held for one slow reader; further behind, it reads from the stream at its own pace."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    @property
    def log_max_age_s(self) -> float:
        return self.log_max_age_days * 86_400

    @cached_property
    def activators(self) -> tuple[str, ...]:
        return tuple(_listed(self.gateway_activators))

    @cached_property
    def webhook_waits_s(self) -> tuple[float, ...]:
        return tuple(float(each) for each in _listed(self.webhook_retries_s))

    @field_validator("webhook_retries_s")
    @classmethod
    def _are_waits(cls, text: str) -> str:
        for each in _listed(text):
            if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", each):
                raise ValueError(f"{each!r} is no number of seconds")
        return text

    @property
    def origins(self) -> list[str]:
        return _listed(self.cors_origins)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        """Browsers compare texts: what is spelled otherwise would match no page, silently."""
        for one in _listed(text):
            if one != "*" and not _ORIGIN.fullmatch(one):
                raise ValueError(
                    f"{one!r} is no origin: write scheme, host and port as browsers send them, in"
                    " lower case and without a path, like https://app.example or"
                    " http://127.0.0.1:3000"
                )
        return text

    @field_validator("org")
    @classmethod
    def _is_slug(cls, text: str) -> str:
        """Earlier versions read the slug from `MODELYARD_ORG_ID`; a UUID there is from the file
        `env` of a stack, which its user has loaded."""
        default: str = cls.model_fields["org"].default
        return default if _UUID.fullmatch(text) else text

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for one in _listed(text):
            ip_network(one)
        return text

    @cached_property
    def build_folders(self) -> tuple[Path, ...]:
        return tuple(Path(one) for one in _listed(self.build_roots))

    @cached_property
    def asset_hosts(self) -> frozenset[str]:
        return frozenset(_listed(self.asset_allow.lower()))

    @cached_property
    def asset_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(filter(None, map(_network, self.asset_hosts)))

    @cached_property
    def proxies(self) -> list[str]:
        return _listed(self.trusted_proxies)

    @cached_property
    def insecure_hosts(self) -> frozenset[str]:
        return frozenset(_listed(self.insecure_registries))


def _listed(text: str) -> list[str]:
    return [one for one in map(str.strip, text.split(",")) if one]


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """None for what is a name."""
    try:
        return ip_network(text)
    except ValueError:
        return None

"""Which pieces a stack has, where they listen, and which are somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import pipeline
from pipeline.errors import Misconfigured
from pipeline.settings import Settings
from pipeline.stack import APPS, PIECES
from pipeline.stack.pieces import dockerd
from pipeline.stack.pieces.app import ApiPiece, AppPiece
from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.gateway import HaproxyPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes.piece import Piece
from pipeline.stack.processes.probes import Claims
from pipeline.stack.state import NOT_FOR_NODES, Keys, State

DEFAULT_SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True, slots=True)
class StartOptions:
    auto_ports: bool = False
    only: frozenset[str] = frozenset(PIECES)


@dataclass(slots=True)
class Plan:
    """Made anew for every start. A piece that is given by address, or not wanted, is not in it."""

    installation: str
    addresses: dict[str, str] = field(default_factory=dict)
    """By variable, with credentials where they are needed."""
    base: list[Piece] = field(default_factory=list)
    apps: list[Piece] = field(default_factory=list)
    gateway_env: dict[str, str] = field(default_factory=dict)
    """For who looks after our HAProxy; empty when there is none."""
    app_env: dict[str, str] = field(default_factory=dict)
    """What the apps are started with; empty when there are none."""
    shared_engine: str = ""
    """Address of an engine that is not ours: `down` takes our containers off it one by one."""


async def make_plan(
    settings: Settings,
    environ: Mapping[str, str],
    state: State,
    keys: Keys,
    claims: Claims,
    options: StartOptions,
) -> Plan:
    """Raises Misconfigured: no such piece, a taken port, a given engine that does not answer."""
    if unknown := options.only - set(PIECES):
        names = ", ".join(sorted(unknown))
        raise Misconfigured(f"No such piece: {names}. There are {', '.join(PIECES)}.")
    # Stacks that share an engine must not take each other's containers for their own.
    plan = Plan(environ.get("MODELYARD_INSTALLATION") or f"modelyard-{state.key}")
    planner = _Planner(settings, environ, state, keys, claims, options, plan)
    planner.add_nats()
    planner.add_mongod()
    api_port = planner.api_port()
    planner.add_registry(api_port)
    await planner.add_engine()
    planner.add_haproxy(api_port)
    planner.add_apps(api_port)
    return plan


class _Place(TypedDict):
    """What every piece with a port is made of."""

    folder: Path
    log: Path
    port: int


@dataclass(frozen=True, slots=True)
class _Planner:
    settings: Settings
    environ: Mapping[str, str]
    state: State
    keys: Keys
    claims: Claims
    options: StartOptions
    plan: Plan

    def add_nats(self) -> None:
        if place := self._place("nats", "MODELYARD_NATS_URL", "nats_port"):
            nats = NatsPiece(**place, password=self.keys.nats_password, orgs=self.keys.orgs)
            self._add(nats, "MODELYARD_NATS_URL", nats.url)

    def add_mongod(self) -> None:
        if place := self._place("mongod", "MODELYARD_MONGO_URL", "mongo_port"):
            keys = self.keys
            mongod = MongodPiece(**place, password=keys.mongo_password, key=keys.mongo_key)
            self._add(mongod, "MODELYARD_MONGO_URL", mongod.url)

    def api_port(self) -> int:
        wanted = self.options.only.intersection(APPS)
        return self._port("api_port") if wanted else self.settings.api_port

    def add_registry(self, api_port: int) -> None:
        if place := self._place("registry", "MODELYARD_REGISTRY", "registry_port"):
            keys = self.environ.get("MODELYARD_REGISTRY_KEYS") or self.keys.registry_keys
            # Its engines are on this machine.
            realm = f"http://127.0.0.1:{api_port}/token"
            registry = RegistryPiece(**place, keys=keys, realm=realm)
            self._add(registry, "MODELYARD_REGISTRY", registry.host)

    async def add_engine(self) -> None:
        """The engine that is there, else a private one."""
        if "dockerd" not in self.options.only:
            return
        given = self._given("MODELYARD_DOCKER_HOST") or self._given("DOCKER_HOST")
        if given and not await dockerd.answers(given):
            raise Misconfigured(
                f"No Docker Engine answers at {given}: start it, or unset DOCKER_HOST."
            )
        found = given or await _default_engine()
        if found:
            self.plan.shared_engine = found
            self.plan.addresses["MODELYARD_ENGINE"] = found
        else:
            piece = DockerdPiece(self.state.piece("dockerd"), log=self.state.log("dockerd"))
            self._add(piece, "MODELYARD_ENGINE", piece.host)

    def add_haproxy(self, api_port: int) -> None:
        if place := self._place("haproxy", "MODELYARD_GATEWAY_URL", "gateway_port"):
            # Its servers are on this machine, unless they are somebody else's.
            activator = f"127.0.0.1:{api_port}"
            haproxy = HaproxyPiece(
                **place, signing_key=self.keys.signing_key, activators=[activator]
            )
            self._add(haproxy, "MODELYARD_GATEWAY_URL", haproxy.url)
            self.plan.gateway_env = haproxy.follower_env

    def add_apps(self, port: int) -> None:
        # A gateway that is given by address has somebody else who looks after it.
        has_gateway = bool(self.plan.gateway_env)
        wanted = [
            name
            for name in APPS
            if name in self.options.only and (name != "gateway" or has_gateway)
        ]
        if not wanted:
            return
        addresses = self.plan.addresses
        addresses["MODELYARD_URL"] = self._given("MODELYARD_URL") or f"http://127.0.0.1:{port}"
        env = _environment(
            self.environ, self.settings, self.keys, addresses, self.plan.installation
        )
        env["MODELYARD_API_PORT"] = str(port)
        env["MODELYARD_DOCKER_HOST"] = addresses.get("MODELYARD_ENGINE", "")
        env["MODELYARD_STATE"] = str(self.state.folder)
        if self._given("MODELYARD_REGISTRY"):
            # One that is not ours does not know the key that we made up.
            env["MODELYARD_REGISTRY_KEYS"] = self.environ.get("MODELYARD_REGISTRY_KEYS", "")
        env |= self.plan.gateway_env
        self.plan.app_env = env
        self.plan.apps = [self._app(name, port, env) for name in wanted]

    def _app(self, name: str, port: int, env: Mapping[str, str]) -> Piece:
        folder, log = self.state.piece(name), self.state.log(name)
        if name == "api":
            return ApiPiece(folder, port=port, env=env, log=log)
        if name == "agent":
            env = {key: env[key] for key in env.keys() - NOT_FOR_NODES}
            return AppPiece(name, "workers.agent", folder, env=env, log=log)
        module = "workers" if name == "workers" else f"workers.{name}"
        return AppPiece(name, module, folder, env=env, log=log)

    def _add(self, piece: Piece, variable: str, address: str) -> None:
        self.plan.base.append(piece)
        self.plan.addresses[variable] = address

    def _place(self, name: str, variable: str, port: str) -> _Place | None:
        """None for a piece that is given by address, or that is not wanted."""
        if given := self._given(variable):
            self.plan.addresses[variable] = given
        if given or name not in self.options.only:
            return None
        return {
            "folder": self.state.piece(name),
            "log": self.state.log(name),
            "port": self._port(port),
        }

    def _given(self, variable: str) -> str:
        """What the user set, unless it is what our last start told the user's shell to set."""
        value = self.environ.get(variable, "")
        return "" if value == self.state.addresses.get(variable) else value

    def _port(self, name: str) -> int:
        wanted, setting = getattr(self.settings, name), f"MODELYARD_{name.upper()}"
        return self.claims.choose(wanted, setting=setting, auto=self.options.auto_ports)


def _environment(
    inherited: Mapping[str, str],
    settings: Settings,
    keys: Keys,
    addresses: Mapping[str, str],
    installation: str,
) -> dict[str, str]:
    """The environment of our own processes. What the user set wins over what was made up."""
    source = str(Path(pipeline.__file__).parents[1])
    made_up = {
        **keys.settings,
        "MODELYARD_INSTALLATION": installation,
        # The stack's own registry and whatever a developer tries are on this machine.
        "MODELYARD_ALLOW_PRIVATE_ADDRESSES": "true",
    }
    path = ":".join(filter(None, [source, inherited.get("PYTHONPATH", "")]))
    return {
        **made_up,
        **{name: value for name, value in inherited.items() if value},
        **addresses,
        "MODELYARD_ORG": settings.org,
        "MODELYARD_ADMIN_USER": settings.admin_user,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }


async def _default_engine() -> str:
    address = f"unix://{DEFAULT_SOCKET}"
    return address if await dockerd.answers(address) else ""

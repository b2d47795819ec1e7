"""Which pieces a stack has, where they listen, and which are somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import Misconfigured
from pipeline.settings import Settings
from pipeline.stack import dockerd, environment
from pipeline.stack.app import ApiPiece, AppPiece
from pipeline.stack.dockerd import DockerdPiece
from pipeline.stack.keys import Keys
from pipeline.stack.mongod import MongodPiece
from pipeline.stack.names import APPS, PIECES
from pipeline.stack.nats import NatsPiece
from pipeline.stack.piece import Piece
from pipeline.stack.ports import Claims
from pipeline.stack.registry import RegistryPiece
from pipeline.stack.state import State

DEFAULT_SOCKET = Path("/var/run/docker.sock")


@dataclass(slots=True)
class Blueprint:
    """Drawn anew for every start. A piece that is given by address, or not wanted, is not in it."""

    installation: str
    addresses: dict[str, str] = field(default_factory=dict)
    """By variable, with credentials where they are needed."""
    base: list[Piece] = field(default_factory=list)
    apps: list[Piece] = field(default_factory=list)
    app_env: dict[str, str] = field(default_factory=dict)
    """What the apps are started with; empty when there are none."""
    shared_engine: str = ""
    """Address of an engine that is not ours: `down` takes our containers off it one by one."""


async def draw(
    settings: Settings,
    environ: Mapping[str, str],
    state: State,
    keys: Keys,
    claims: Claims,
    *,
    auto_ports: bool = False,
    only: frozenset[str] = frozenset(PIECES),
) -> Blueprint:
    """Raises Misconfigured: no such piece, a taken port, a given engine that does not answer."""
    if unknown := only - set(PIECES):
        names = ", ".join(sorted(unknown))
        raise Misconfigured(f"No such piece: {names}. There are {', '.join(PIECES)}.")
    drawing = _Drawing(settings, environ, state, keys, claims, auto_ports, only)
    drawing.add_nats()
    drawing.add_mongod()
    drawing.add_registry()
    await drawing.add_engine()
    drawing.add_apps()
    return drawing.blueprint


class _Drawing:
    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        state: State,
        keys: Keys,
        claims: Claims,
        auto_ports: bool,
        only: frozenset[str],
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._state = state
        self._keys = keys
        self._claims = claims
        self._auto_ports = auto_ports
        self._only = only
        # Stacks that share an engine must not take each other's containers for their own.
        own = f"modelyard-{state.key}"
        self.blueprint = Blueprint(environ.get("MODELYARD_INSTALLATION") or own)

    def add_nats(self) -> None:
        if not self._ours("nats", "MODELYARD_NATS_URL"):
            return
        piece = NatsPiece(
            self._state.piece("nats"),
            port=self._port(self._settings.nats_port, "MODELYARD_NATS_PORT"),
            password=self._keys.nats_password,
            orgs=self._keys.orgs,
            log=self._state.log("nats"),
        )
        self._add(piece, "MODELYARD_NATS_URL", piece.url)

    def add_mongod(self) -> None:
        if not self._ours("mongod", "MODELYARD_MONGO_URL"):
            return
        piece = MongodPiece(
            self._state.piece("mongod"),
            port=self._port(self._settings.mongo_port, "MODELYARD_MONGO_PORT"),
            password=self._keys.mongo_password,
            key=self._keys.mongo_key,
            log=self._state.log("mongod"),
        )
        self._add(piece, "MODELYARD_MONGO_URL", piece.url)

    def add_registry(self) -> None:
        if not self._ours("registry", "MODELYARD_REGISTRY"):
            return
        piece = RegistryPiece(
            self._state.piece("registry"),
            port=self._port(self._settings.registry_port, "MODELYARD_REGISTRY_PORT"),
            log=self._state.log("registry"),
        )
        self._add(piece, "MODELYARD_REGISTRY", piece.host)

    async def add_engine(self) -> None:
        """The engine that is there, else a private one."""
        if "dockerd" not in self._only:
            return
        given = self._given("MODELYARD_DOCKER_HOST") or self._given("DOCKER_HOST")
        if given and not await dockerd.answers(given):
            raise Misconfigured(
                f"No Docker Engine answers at {given}: start it, or unset DOCKER_HOST."
            )
        found = given or await _default_engine()
        if found:
            self.blueprint.shared_engine = found
            self.blueprint.addresses["DOCKER_HOST"] = found
        else:
            piece = DockerdPiece(self._state.piece("dockerd"), log=self._state.log("dockerd"))
            self._add(piece, "DOCKER_HOST", piece.host)

    def add_apps(self) -> None:
        wanted = [name for name in APPS if name in self._only]
        if not wanted:
            return
        port = self._port(self._settings.api_port, "MODELYARD_API_PORT")
        addresses = self.blueprint.addresses
        addresses["MODELYARD_URL"] = self._given("MODELYARD_URL") or f"http://127.0.0.1:{port}"
        env = environment.for_processes(
            self._environ, self._settings, self._keys, addresses, self.blueprint.installation
        )
        env["MODELYARD_API_PORT"] = str(port)
        env["MODELYARD_DOCKER_HOST"] = addresses.get("DOCKER_HOST", "")
        env["MODELYARD_STATE"] = str(self._state.folder)
        self.blueprint.app_env = env
        self.blueprint.apps = [self._app(name, port, env) for name in wanted]

    def _app(self, name: str, port: int, env: Mapping[str, str]) -> Piece:
        folder, log = self._state.piece(name), self._state.log(name)
        if name == "api":
            return ApiPiece(folder, port=port, env=env, log=log)
        module = {"workers": "workers", "agent": "workers.agent"}[name]
        return AppPiece(name, module, folder, env=env, log=log)

    def _add(self, piece: Piece, variable: str, address: str) -> None:
        self.blueprint.base.append(piece)
        self.blueprint.addresses[variable] = address

    def _ours(self, name: str, variable: str) -> bool:
        given = self._given(variable)
        if given:
            self.blueprint.addresses[variable] = given
        return not given and name in self._only

    def _given(self, variable: str) -> str:
        """What the user set, unless it is what our last start told the user's shell to set."""
        value = self._environ.get(variable, "")
        return "" if value == self._state.addresses.get(variable) else value

    def _port(self, wanted: int, setting: str) -> int:
        return self._claims.choose(wanted, setting=setting, auto=self._auto_ports)


async def _default_engine() -> str:
    address = f"unix://{DEFAULT_SOCKET}"
    return address if await dockerd.answers(address) else ""

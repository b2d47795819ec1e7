"""What a stack needs and whether it is there: the findings of `modelyard doctor`."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from pipeline.adapters.store.store import Store
from pipeline.errors import Misconfigured, YardError
from pipeline.own_registry.fence import RegistryFence
from pipeline.settings import Settings
from pipeline.stack import diagnosis
from pipeline.stack.diagnosis import Finding
from pipeline.stack.pieces import dockerd
from pipeline.stack.pieces.mongod import mongod_binary
from pipeline.stack.plan import DEFAULT_SOCKET
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import program
from pipeline.stack.state import State

DISK_NEEDED_BYTES = 5 * 1024**3
PROGRAMS = (
    *("nats-server", "mongod", "docker-registry", "dockerd", "haproxy"),
    *("ip", "iptables", "unshare", "setpriv"),
)
_Check = Callable[[str, int], Awaitable[bool]]
_SETUP = "Run `make setup`."


async def examine(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Programs, folder, engine, and either the running stack or the ports that it would take."""
    state = State(settings.state)
    programs = await asyncio.gather(*map(_program, PROGRAMS))
    findings = [_python(), *programs, _folder(state)]
    findings += diagnosis.private_files(state) + diagnosis.fsync(state)
    findings.append(await _engine(settings, environ, state))
    if state.is_running:
        services = await _services(state.addresses)
        return findings + services + await _space(settings, state.addresses)
    return findings + _ports(settings, environ)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, version, "" if ok else "Use Python 3.11 or newer.")


async def _program(name: str) -> Finding:
    try:
        path = mongod_binary() if name == "mongod" else program(name, remedy=_SETUP)
    except Misconfigured as error:
        return Finding(name, False, error.message, _SETUP)
    said = await diagnosis.version(name, path)
    return Finding(name, True, f"{path}, {said}" if said else path)


def _folder(state: State) -> Finding:
    """The nearest folder that exists is the one to be written."""
    existing = next(folder for folder in (state.folder, *state.folder.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    detail = f"{state.folder}, {free // 1024**3} GiB free"
    if not os.access(existing, os.W_OK):
        return Finding("state folder", False, detail, "Set MODELYARD_STATE to a folder of yours.")
    if free < DISK_NEEDED_BYTES:
        return Finding("state folder", False, detail, "Free some space: images need gigabytes.")
    return Finding("state folder", True, detail)


async def _engine(settings: Settings, environ: Mapping[str, str], state: State) -> Finding:
    own = state.addresses.get("MODELYARD_ENGINE", "")
    given = settings.docker_host or environ.get("DOCKER_HOST", "")
    asked = given if given and given != own else ""
    if asked:
        ok = await dockerd.answers(asked)
        return Finding("engine", ok, asked, "" if ok else "Start it, or unset DOCKER_HOST.")
    for address in (f"unix://{DEFAULT_SOCKET}", own):
        if address and await dockerd.answers(address):
            return Finding("engine", True, address)
    if os.geteuid() == 0:
        return Finding("engine", True, "none answers; `modelyard up` starts a private one")
    return Finding("engine", False, "none answers", "Start Docker, set DOCKER_HOST, or be root.")


def _ports(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Only of the pieces that a start from here would start."""
    wanted = {
        "MODELYARD_API_PORT": (settings.api_port, ""),
        "MODELYARD_NATS_PORT": (settings.nats_port, "MODELYARD_NATS_URL"),
        "MODELYARD_MONGO_PORT": (settings.mongo_port, "MODELYARD_MONGO_URL"),
        "MODELYARD_REGISTRY_PORT": (settings.registry_port, "MODELYARD_REGISTRY"),
        "MODELYARD_GATEWAY_PORT": (settings.gateway_port, "MODELYARD_GATEWAY_URL"),
    }
    return [
        _port(setting, port)
        for setting, (port, replaced_by) in wanted.items()
        if not environ.get(replaced_by)
    ]


def _port(setting: str, port: int) -> Finding:
    if probes.is_free(port):
        return Finding(f"port {port}", True, "free")
    remedy = f"Set {setting} to a free port, or use `modelyard up --ports auto`."
    return Finding(f"port {port}", False, "taken", remedy)


async def _services(addresses: Mapping[str, str]) -> list[Finding]:
    services: list[tuple[str, str, _Check]] = [
        ("broker", "MODELYARD_NATS_URL", probes.accepts),
        ("store", "MODELYARD_MONGO_URL", probes.accepts),
        ("registry", "MODELYARD_REGISTRY", _registry_answers),
        ("gateway", "MODELYARD_GATEWAY_URL", probes.accepts),
        ("api", "MODELYARD_URL", _api_is_ready),
    ]
    asked = [
        _service(name, addresses[variable], check)
        for name, variable, check in services
        if variable in addresses
    ]
    return list(await asyncio.gather(*asked))


async def _space(settings: Settings, addresses: Mapping[str, str]) -> list[Finding]:
    """What the stack's registry holds; nothing of one that others run."""
    url = addresses.get("MODELYARD_MONGO_URL")
    if url is None:
        return []
    try:
        async with Store.open(url, settings.mongo_database) as store:
            space = await RegistryFence(store, settings.org).space()
    except YardError:
        return []  # it is found above that the store does not answer
    if space.used_bytes is None:
        return []
    reclaimable = (space.reclaimable_bytes or 0) // 2**20
    detail = f"{space.used_bytes // 2**20} MiB used, {reclaimable} MiB of it can be given back"
    return [Finding("registry space", True, detail)]


async def _service(name: str, address: str, check: _Check) -> Finding:
    parts = urlsplit(address if "://" in address else f"//{address}")
    host, port = parts.hostname or "", parts.port or 0
    ok = await check(host, port)
    remedy = "" if ok else "Read its log; then `modelyard down` and `modelyard up`."
    return Finding(name, ok, f"{host}:{port}", remedy)


async def _registry_answers(host: str, port: int) -> bool:
    # A registry that wants credentials is a registry.
    return await probes.status(host, port, "/v2/") in (200, 401)


async def _api_is_ready(host: str, port: int) -> bool:
    return await probes.status(host, port, "/readyz") == 200

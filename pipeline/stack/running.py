"""One run of a stack, from the first piece to the last trace."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.settings import Settings
from pipeline.stack import environment, leftovers, logs
from pipeline.stack.admission import admit
from pipeline.stack.blueprint import Blueprint, draw
from pipeline.stack.keys import Keys, load_keys, save_keys
from pipeline.stack.names import PIECES
from pipeline.stack.org_readers import prepare_readers
from pipeline.stack.owner import Owner
from pipeline.stack.ports import Claims
from pipeline.stack.state import Run, State, write_private
from pipeline.stack.supervisor import Report, Supervisor

Facts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Wishes:
    auto_ports: bool = False
    only: frozenset[str] = frozenset(PIECES)


async def run_stack(
    settings: Settings,
    environ: Mapping[str, str],
    wishes: Wishes,
    *,
    report: Report,
    ready: Callable[[Facts], None],
) -> None:
    """Starts everything, calls `ready` with what `.modelyard/env` says, stops on SIGINT or SIGTERM.

    Raises Misconfigured or Conflict when it cannot start; nothing is left behind then either.
    Must be called in the main thread: the pieces end with the thread that started them.
    """
    state = State(settings.state)
    state.create()
    with state.held(), Claims() as claims:
        await leftovers.clear(state)
        keys = load_keys(state.keys_file, org=settings.org_id)
        blueprint = await draw(
            settings,
            environ,
            state,
            keys,
            claims,
            auto_ports=wishes.auto_ports,
            only=wishes.only,
        )
        supervisor = Supervisor([blueprint.base, blueprint.apps], report=report)
        note = _note(state, blueprint)
        stopping = _stop_signals()
        keeper = asyncio.create_task(logs.keep_small(state.log("any").parent))
        try:
            if await _unless(stopping, supervisor.start()):
                ready(await _publish(settings, state, keys, blueprint, note))
                await stopping.wait()
        finally:
            keeper.cancel()
            await supervisor.stop()
            await leftovers.clear(state)


def _note(state: State, blueprint: Blueprint) -> Run:
    me = Owner.me()
    note = Run(
        pid=me.pid,
        started=me.started,
        shared_engine=blueprint.shared_engine,
        installation=blueprint.installation,
    )
    state.write_run(note)
    return note


async def _publish(
    settings: Settings, state: State, keys: Keys, blueprint: Blueprint, note: Run
) -> Facts:
    """Writes `.modelyard/env`, the sign that the stack is ready."""
    facts = dict(blueprint.addresses)
    if any(piece.name == "api" for piece in blueprint.apps):
        admission = await admit(settings, keys, blueprint.app_env)
        if any(piece.name == "nats" for piece in blueprint.base):
            await prepare_readers(blueprint.addresses["MODELYARD_NATS_URL"], keys.orgs)
        password = blueprint.app_env["MODELYARD_ADMIN_PASSWORD"]
        known = asdict(admission) | {"admin_password": password}
        save_keys(state.keys_file, keys.model_copy(update=known))
        facts |= {
            "MODELYARD_TOKEN": admission.token,
            "MODELYARD_API_KEY": admission.api_key,
            "MODELYARD_ORG_ID": settings.org_id,
            "MODELYARD_ADMIN_USER": settings.admin_user,
            "MODELYARD_ADMIN_PASSWORD": password,
        }
    state.write_addresses(blueprint.addresses)
    write_private(state.env_file, environment.as_shell(facts))
    state.write_run(note.model_copy(update={"ready": True}))
    return facts


def _stop_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Does the work unless it is to stop before the end; False then."""
    doing = asyncio.create_task(work)
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait([doing, waiting], return_when=asyncio.FIRST_COMPLETED)
    finished = doing.done()
    waiting.cancel()
    if not finished:
        doing.cancel()
    await asyncio.gather(doing, return_exceptions=not finished)
    return finished

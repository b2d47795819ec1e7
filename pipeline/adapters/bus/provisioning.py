"""Streams and durables: made, brought up to date, and found missing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar

from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NotFoundError

from pipeline.errors import BusUnavailable, Misconfigured
from pipeline.topology import VERSION, StagePlan, StreamPlan, matches

log = logging.getLogger(__name__)

VERSION_KEY = "modelyard.topology"
NAME_TAKEN = frozenset({10058, 10148})
"""JetStream: the stream, or the consumer, exists with another configuration."""
ROUNDS = 5
"""Rounds of look and write while several processes prepare at the same time."""
MAX_ACK_PENDING = 20_000
"""Messages that wait for a delayed retry count, and must not hold up the others."""

Config = TypeVar("Config", api.StreamConfig, api.ConsumerConfig)


async def ensure_stream(js: JetStreamContext, plan: StreamPlan, *, replicas: int) -> None:
    """Create it, or set what the plan says and leave everything else as the operator set it."""
    settings = _stream_settings(plan)
    for _ in range(ROUNDS):
        try:
            found = (await js.stream_info(plan.name)).config
            if _is_outdated(found, settings, plan.name):
                _refuse_other_retention(found, plan)
                await js.update_stream(_updated(found, settings))
            return
        except NotFoundError:
            fresh = api.StreamConfig(name=plan.name, num_replicas=replicas)
            if await _is_created(js.add_stream(_updated(fresh, settings))):
                return
    raise BusUnavailable(f"The stream {plan.name} keeps changing under us.")


async def ensure_durable(js: JetStreamContext, plan: StagePlan) -> None:
    """Create the durable of a stage, or bring its limits up to date; its position stays."""
    stream, settings = plan.stream.name, _durable_settings(plan)
    for _ in range(ROUNDS):
        try:
            found = (await js.consumer_info(stream, plan.durable)).config
            if _is_outdated(found, settings, plan.durable):
                await js.add_consumer(stream, _updated(found, settings))
            return
        except NotFoundError:
            fresh = _updated(api.ConsumerConfig(name=plan.durable), settings)
            fresh = fresh.evolve(**await _beginning(js, plan))
            if await _is_created(js.add_consumer(stream, fresh)):
                return
    raise BusUnavailable(f"The durable {plan.durable} keeps changing under us.")


async def missing(
    js: JetStreamContext, streams: Iterable[StreamPlan], stages: Iterable[StagePlan]
) -> list[str]:
    """Names of the streams and durables that do not exist."""
    absent = [plan.name for plan in streams if not await _exists(js.stream_info(plan.name))]
    return absent + [
        plan.durable
        for plan in stages
        if not await _exists(js.consumer_info(plan.stream.name, plan.durable))
    ]


async def stream_names(js: JetStreamContext) -> list[str]:
    names: list[str] = []
    while page := await js.streams_info(offset=len(names)):
        names += [str(stream.config.name) for stream in page]
    return names


async def unroutable(js: JetStreamContext, plan: StreamPlan) -> list[str]:
    """Subjects of which the stream holds messages and which no durable reads."""
    info = await js.stream_info(plan.name, subjects_filter=">")
    held = list(info.state.subjects or {})
    if not held:
        return []
    patterns = await _read_subjects(js, plan)
    return [s for s in held if not any(matches(pattern, s) for pattern in patterns)]


async def _read_subjects(js: JetStreamContext, plan: StreamPlan) -> list[str]:
    patterns: list[str] = []
    while page := await js.consumers_info(plan.name, offset=len(patterns)):
        patterns += [(consumer.config.filter_subject or ">") for consumer in page]
    return patterns


def _stream_settings(plan: StreamPlan) -> dict[str, Any]:
    return {
        "subjects": list(plan.subjects),
        "retention": (
            api.RetentionPolicy.WORK_QUEUE if plan.work_queue else api.RetentionPolicy.LIMITS
        ),
        "storage": api.StorageType.FILE,
        "max_age": float(plan.max_age_s),
        "duplicate_window": float(plan.duplicate_window_s),
        "allow_direct": True,
        "republish": _republish(plan),
        **_limit(plan),
    }


def _limit(plan: StreamPlan) -> dict[str, Any]:
    """Where there is none, an operator may have set one."""
    if not plan.max_bytes:
        return {}
    return {"max_bytes": plan.max_bytes, "discard": api.DiscardPolicy.NEW}


def _republish(plan: StreamPlan) -> api.RePublish | None:
    if not plan.live:
        return None
    source = plan.subjects[0]
    return api.RePublish(src=source, dest=f"{plan.live}.>", headers_only=None)


def _durable_settings(plan: StagePlan) -> dict[str, Any]:
    return {
        "durable_name": plan.durable,
        "filter_subject": plan.subject,
        "ack_policy": api.AckPolicy.EXPLICIT,
        "ack_wait": float(plan.ack_wait_s),
        "max_deliver": plan.max_deliver,
        "max_ack_pending": 1 if plan.in_order else MAX_ACK_PENDING,
        "inactive_threshold": float(plan.idle_s) or None,
    }


async def _beginning(js: JetStreamContext, plan: StagePlan) -> dict[str, Any]:
    """Where a new durable begins; the broker lets nobody change that later."""
    if plan.after is None:
        return {}
    state = (await js.stream_info(plan.stream.name)).state
    # The numbers began anew, with the stream, when there are fewer of them.
    start = plan.after + 1 if plan.after <= state.last_seq else 1
    return {
        "deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE,
        "opt_start_seq": max(start, state.first_seq, 1),
    }


def _is_outdated(found: Any, settings: Mapping[str, Any], name: str) -> bool:
    """Does it need our write? Never when a newer release made it."""
    version = int((found.metadata or {}).get(VERSION_KEY, 0))
    if version > VERSION:
        log.info("%s belongs to a newer release: left as it is", name)
        return False
    return version < VERSION or any(getattr(found, key) != settings[key] for key in settings)


def _updated(config: Config, settings: Mapping[str, Any]) -> Config:
    metadata = (config.metadata or {}) | {VERSION_KEY: str(VERSION)}
    return config.evolve(metadata=metadata, **settings)


def _refuse_other_retention(found: api.StreamConfig, plan: StreamPlan) -> None:
    if found.retention != _stream_settings(plan)["retention"]:
        raise Misconfigured(
            f"The stream {plan.name} exists and keeps messages by another rule"
            f" ({found.retention}): it is not ours; rename or remove it."
        )


async def _is_created(creation: Any) -> bool:
    """False when somebody else made it first, otherwise: look again."""
    try:
        await creation
    except BadRequestError as error:
        if error.err_code in NAME_TAKEN:
            return False
        raise
    return True


async def _exists(info: Awaitable[object]) -> bool:
    try:
        await info
    except NotFoundError:
        return False
    return True

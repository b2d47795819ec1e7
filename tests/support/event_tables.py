"""The tables of the page about events, from streams, schemas and kinds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from pipeline import topology
from pipeline.topology import StagePlan, StreamPlan
from schemas.commands import COMMANDS
from schemas.events import KINDS
from schemas.message import EventData, Message, Rejection
from workers.asyncapi import HEADERS

BEGIN = "<!-- Below here `make docs` writes. -->"


def event_tables() -> str:
    parts = (
        ("Streams", _streams()),
        ("Headers", _headers()),
        ("Payload of an event", _fields(EventData)),
        ("Payload of `rejected`", _fields(Rejection)),
        ("Kinds of events", _kinds()),
        ("Commands", _commands()),
    )
    return "\n".join(f"## {title}\n\n{table}\n" for title, table in parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _streams() -> str:
    plans = (*topology.STREAMS, topology.asked("ORG"))
    head = ["Stream", "Subjects", "Keeps", "A repeated `Nats-Msg-Id` is dropped for"]
    return _table(head, [_stream(plan) for plan in plans])


def _stream(plan: StreamPlan) -> list[str]:
    days = plan.max_age_s // topology.DAY_S
    kept = f"{days} day{'s' * (days > 1)}" if days else "until done"
    if plan.max_bytes:
        kept += f", {plan.max_bytes // 1024**2} MiB at most"
    subjects = ", ".join(f"`{subject}`" for subject in plan.subjects)
    return [f"`{plan.name}`", subjects, kept, f"{plan.duplicate_window_s} s"]


def _headers() -> str:
    sent = Message(id="i", subject="s", type="t", time="2026-01-01T00:00:00Z").headers()  # type: ignore[arg-type]
    rows = []
    for name, schema in HEADERS["properties"].items():
        needed = "to be sent" if name in HEADERS["required"] else "always" if name in sent else ""
        example = schema.get("const") or next(iter(schema.get("examples", ())), "")
        text = schema.get("description") or f"`{example}`" if example or schema else ""
        rows.append([f"`{name}`", needed, "" if text == "``" else text])
    return _table(["Header", "", "Meaning"], rows)


def _fields(shape: type[BaseModel]) -> str:
    schema = shape.model_json_schema()
    required = schema.get("required", [])
    rows = [
        [f"`{name}`", _type(member), "always" if name in required else ""]
        for name, member in schema["properties"].items()
    ]
    return _table(["Member", "Type", ""], rows)


def _kinds() -> str:
    rows = [
        [f"`{resource}`", " ".join(f"`{kind}`" for kind in kinds)]
        for resource, kinds in KINDS.items()
    ]
    return _table(["Resource", "Kinds, beside `rejected`"], rows)


def _commands() -> str:
    plans = {plan.subject.removeprefix("yard.cmd.*."): plan for plan in topology.STAGES}
    rows = [_command(key, shape, plans[key]) for key, shape in COMMANDS.items()]
    head = ["Subject after `yard.cmd.<org>.`", "Members (**required**)", "Attempts", "Ack wait"]
    return _table(head, rows)


def _command(key: str, shape: type[BaseModel], plan: StagePlan) -> list[str]:
    schema = shape.model_json_schema()
    required = schema.get("required", [])
    members = [
        f"**`{name}`**" if name in required else f"`{name}`" for name in schema["properties"]
    ]
    return [f"`{key}`", " ".join(members), str(plan.max_deliver), f"{plan.ack_wait_s:g} s"]


def _type(member: dict[str, Any]) -> str:
    kinds = [each.get("type", "") for each in member.get("anyOf", [member])]
    return " or ".join(kinds)

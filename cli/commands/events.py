"""`modelyard events` and `modelyard dead-letters`: what happened, and what could not be done."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.client import Client
from cli.console import AsJson, age, echo, field, for_each, json_or_row, json_or_table, out
from modelyard.client import Event

RESOURCES = (
    *(
        "audit-entry",
        "build",
        "catalog",
        "catalog-row",
        "container",
        "dead-letter",
        "deployment",
        "image",
    ),
    *("model", "model-file", "model-version", "node", "organisation", "registry"),
    *("registry-history", "registry-space", "secret", "token", "upload", "user", "volume"),
    *("webhook", "webhook-delivery"),
)
"""As the records call them. They are not asked: that would load them for every command."""


dead_letters = typer.Typer(no_args_is_help=True, help="Messages that could not be handled.")

Letters = Annotated[list[str], typer.Argument(help="Their IDs.")]

COLUMNS = [
    ("ID", field("id")),
    ("SUBJECT", field("subject")),
    ("CODE", field("code")),
    ("ATTEMPTS", field("attempts")),
    ("AGE", age("time")),
    ("REASON", field("reason")),
]


def events(
    resource: Annotated[
        list[str] | None, typer.Option(help="For instance image; again for more.")
    ] = None,
    id: Annotated[list[str] | None, typer.Option(help="Only this record; again for more.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only kinds that begin like this.")] = None,
    after: Annotated[str | None, typer.Option(help="Resume after this event id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Follow what happens, over every image, container and node of the organisation.

    For instance: modelyard events --resource image --resource container
    """
    if unknown := set(resource or []) - set(RESOURCES):
        known = ", ".join(RESOURCES)
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; known are {known}.")
    for event in Client().events(after=after, resource=resource, id=id, kind=kind):
        if event.event == "open":
            continue
        if as_json:
            print(json.dumps({**event.data, "event_id": event.id}), flush=True)
            continue
        data = event.data.get("data", event.data)
        reason = field("reason")(data) or ""
        rest = f" {data.get('name', '')} {data.get('status', '')} {reason}"
        echo(out, (event.id, "dim"), " ", (_name(event), "bold"), rest)


def _name(event: Event) -> str:
    """`image.ready`; frames about the stream itself, such as `reset`, are named as they are."""
    if "kind" in event.data:
        return f"{event.data['resource']}.{event.data['kind']}"
    return event.event


@dead_letters.command("list")
def list_(as_json: AsJson = False) -> None:
    """Newest first, with the reason.

    For instance: modelyard dead-letters list
    """
    json_or_table(Client().pages("/dead-letters", limit=200), COLUMNS, as_json=as_json)


@dead_letters.command()
def show(
    letter: str,
    whole: Annotated[
        bool, typer.Option("--whole", help="Secrets included; that you looked is an event.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One message with its history and payload, in which secrets are masked.

    For instance: modelyard dead-letters show 7
    """
    found = Client().call("GET", "/dead-letters", letter, *(["text"] if whole else []))
    json_or_row(found, COLUMNS)


@dead_letters.command()
def requeue(letters: Letters) -> None:
    """Give them to the workers again.

    For instance: modelyard dead-letters requeue 7
    """
    client = Client()

    def again(letter: str) -> str:
        client.call("POST", "/dead-letters", letter, "requeue")
        return "requeued"

    for_each(letters, again)


@dead_letters.command()
def drop(letters: Letters) -> None:
    """Forget them.

    For instance: modelyard dead-letters drop 7
    """
    client = Client()

    def forget(letter: str) -> str:
        client.call("DELETE", "/dead-letters", letter)
        return "dropped"

    for_each(letters, forget)

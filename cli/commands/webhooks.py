"""`modelyard webhooks`: whom the organisation has told what happens."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from cli.client import Client, given
from cli.console import (
    ID,
    AsJson,
    Item,
    Limit,
    age,
    echo,
    err,
    field,
    for_each,
    json_or_row,
    json_or_table,
)

app = typer.Typer(no_args_is_help=True, help="URLs that are told what happens.")

Webhook = Annotated[str, typer.Argument(help="Its name or its ID.")]
Resource = Annotated[
    list[str] | None,
    typer.Option("--resource", help="Tell of these only, for instance image; repeat for more."),
]
Kind = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Tell of these events only, for instance ready; repeat for more."),
]
COLUMNS = [
    (ID, field("uuid")),
    ("NAME", field("name")),
    ("URL", field("url")),
    ("RESOURCES", lambda item: _listed(item, "resources")),
    ("KINDS", lambda item: _listed(item, "kinds")),
    ("STATUS", field("status")),
    ("AGE", age("created_at")),
]
DELIVERY_COLUMNS = [
    (ID, field("uuid")),
    ("EVENT", field("kind")),
    ("ABOUT", field("about")),
    ("STATUS", field("status")),
    ("TRIES", field("tries")),
    ("REASON", field("reason")),
    ("AGE", age("created_at")),
]


@app.command()
def create(name: str, url: str, resource: Resource = None, kind: Kind = None) -> None:
    """Have a URL told of what happens from now on. Prints the secret that its receiver verifies
    with.

    For instance: modelyard webhooks create ci https://ci.example.com/hooks --resource image
    """
    client = Client()
    asked = given(name=name, url=url, resources=resource, kinds=kind)
    made = client.call("POST", "/webhooks", json=asked)
    echo(err, f"{made['name']} is told of what happens from now on; it verifies with")
    print(client.call("GET", "/webhooks", made["uuid"], "secret")["secrets"][0])


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """Webhooks of the organisation.

    For instance: modelyard webhooks list
    """
    json_or_table(Client().pages("/webhooks", limit=limit), COLUMNS, as_json=as_json)


@app.command()
def show(webhook: Webhook, as_json: AsJson = False) -> None:
    """One webhook.

    For instance: modelyard webhooks show ci
    """
    json_or_row(Client().call("GET", "/webhooks", webhook), COLUMNS)


@app.command()
def edit(
    webhook: Webhook,
    url: Annotated[str | None, typer.Option(help="Where it goes from now on.")] = None,
    resource: Resource = None,
    kind: Kind = None,
) -> None:
    """Change where it goes or of what it tells.

    For instance: modelyard webhooks edit ci --kind ready --kind failed
    """
    change = given(url=url, resources=resource, kinds=kind)
    Client().call("PATCH", "/webhooks", webhook, json=change)
    echo(err, "changed")


@app.command()
def disable(webhooks: Annotated[list[str], typer.Argument(help="Names or IDs.")]) -> None:
    """Tell them nothing for now, and nothing later of this time.

    For instance: modelyard webhooks disable ci
    """
    for_each(webhooks, partial(_switch, Client(), is_on=False))


@app.command()
def enable(webhooks: Annotated[list[str], typer.Argument(help="Names or IDs.")]) -> None:
    """Tell them of what happens from now on.

    For instance: modelyard webhooks enable ci
    """
    for_each(webhooks, partial(_switch, Client(), is_on=True))


@app.command()
def delete(webhooks: Annotated[list[str], typer.Argument(help="Names or IDs.")]) -> None:
    """Tell them nothing any more.

    For instance: modelyard webhooks delete ci
    """
    client = Client()

    def forget(webhook: str) -> str:
        client.call("DELETE", "/webhooks", webhook)
        return "deleted"

    for_each(webhooks, forget)


@app.command("secret")
def secret(webhook: Webhook) -> None:
    """Print what its receiver verifies with; after a rotation both, the newer one first.

    For instance: modelyard webhooks secret ci
    """
    print("\n".join(Client().call("GET", "/webhooks", webhook, "secret")["secrets"]))


@app.command("rotate-secret")
def rotate_secret(
    webhook: Webhook,
    keep: Annotated[
        float, typer.Option(min=0, help="Hours for which the one before it signs, too.")
    ] = 24,
) -> None:
    """Sign with a new secret, which is printed.

    For instance: modelyard webhooks rotate-secret ci --keep 48
    """
    params = {"keep_s": keep * 3600}
    client = Client()
    done = client.call("POST", "/webhooks", webhook, "rotate-secret", params=params)
    print(done["secrets"][0])


@app.command()
def test(webhook: Webhook) -> None:
    """Send an event that did not happen; `deliveries` shows what came of it.

    For instance: modelyard webhooks test ci
    """
    print(Client().call("POST", "/webhooks", webhook, "test")["uuid"])


@app.command()
def deliveries(
    webhook: Webhook,
    status: Annotated[str | None, typer.Option(help="PENDING, DELIVERED or DEAD")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """What was sent or waits to be; `--json` shows each try.

    For instance: modelyard webhooks deliveries ci --status DEAD
    """
    client = Client()
    known = client.call("GET", "/webhooks", webhook)["uuid"]
    found = client.pages(f"/webhooks/{known}/deliveries", limit=limit, status=status)
    json_or_table(found, DELIVERY_COLUMNS, as_json=as_json)


@app.command("send")
def send(
    webhook: Webhook,
    named: Annotated[list[str], typer.Argument(metavar="DELIVERIES...", help="Their whole IDs.")],
) -> None:
    """Send deliveries again that were given up, or that the receiver has lost.

    For instance: modelyard webhooks send ci 0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0
    """
    client = Client()

    def again(delivery: str) -> str:
        client.call("POST", "/webhooks", webhook, "deliveries", delivery, "send")
        return "is sent again"

    for_each(named, again)


def _switch(client: Client, webhook: str, *, is_on: bool) -> str:
    client.call("PATCH", "/webhooks", webhook, json={"active": is_on})
    return "enabled" if is_on else "disabled"


def _listed(item: Item, name: str) -> str:
    return ", ".join(item[name]) or "all"

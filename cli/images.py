"""`modelyard images`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.client import FAILED, Client, err, out, say
from cli.named import Named, uuid_of
from cli.progress import follow
from cli.push import push
from cli.show import age, as_document, field, json_or_table, size

app = typer.Typer(no_args_is_help=True, help="Bring images and see what became of them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000)]

COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("STATUS", field("status")),
    ("SIZE", size("size_bytes")),
    ("PLATFORM", lambda item: _platform(item)),
    ("AGE", age("created_at")),
    ("REASON", field("reason")),
]


@app.command()
def add(
    reference: str,
    name: Annotated[
        str | None,
        typer.Option(
            help="A name that no other image has; default: the reference, which several may share."
        ),
    ] = None,
    platform: Annotated[str | None, typer.Option(help="For instance linux/arm64.")] = None,
    secret: Annotated[str | None, typer.Option(help="Registry secret, by name.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is proved or refused.")] = True,
    as_json: AsJson = False,
) -> None:
    """Bring an image by reference; the registry is asked whether it is there and complete."""
    client = Client()
    body = {"reference": reference, "name": name, "platform": platform, "secret": secret}
    asked = {key: value for key, value in body.items() if value is not None}
    image = client.call("POST", "/images", json=asked)
    if wait:
        image = follow(client, "images", image, until={"READY", "FAILED", "DELETED"})
    if as_json:
        as_document(image)
    else:
        json_or_table([image], COLUMNS, as_json=False)
        for finding in image["findings"]:
            say(out, f"  {finding['severity']}: {finding['message']} ({finding['code']})")
    if image["status"] == "FAILED":
        raise typer.Exit(FAILED)


app.command()(push)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    images = Client().pages("/images", limit=limit, status=status, name=name)
    json_or_table(images, COLUMNS, as_json=as_json)


@app.command()
def show(image: Named) -> None:
    """Everything that is known about one image."""
    client = Client()
    uuid = uuid_of(client, "images", image)
    as_document(client.call("GET", f"/images/{uuid}"))


@app.command()
def delete(image: Named) -> None:
    """Forget an image that no container uses."""
    client = Client()
    uuid = uuid_of(client, "images", image)
    client.call("DELETE", f"/images/{uuid}")
    say(err, "deleted")


def _platform(item: dict[str, object]) -> str:
    platform = item.get("platform")
    if not isinstance(platform, dict):
        return ""
    return f"{platform['os']}/{platform['architecture']}"

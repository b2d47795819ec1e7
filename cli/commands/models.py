"""`modelyard models`: models with their versions, each of which runs a container image."""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.client import Client, given
from cli.console import (
    FAILED,
    MISSING,
    AsJson,
    AsJsonOrTable,
    Limit,
    OnlyJson,
    age,
    as_document,
    echo,
    err,
    field,
    json_or_row,
    json_or_table,
    out,
    refuse,
)
from cli.content import content, json_value, opened, secret
from cli.progress import drawn

app = typer.Typer(no_args_is_help=True, help="Models, their versions, and what these answer.")

Model = Annotated[str, typer.Argument(help="Its name or its ID.")]
Version = Annotated[str, typer.Argument(help="For instance 1.0.0.")]
Look = Annotated[bool, typer.Option("--status", help="Start nothing, show how far it is.")]
POLL_S = 0.5
WITHOUT_END: Any = None
"""Whoever runs a model says by its timeouts how long that takes, and the server keeps them."""
COLUMNS = [
    ("ID", field("identifier")),
    ("NAME", field("name")),
    ("VERSIONS", lambda item: " ".join(item["versions"])),
    ("ACTIVE", field("latestActiveVersion")),
    ("TAGS", lambda item: ", ".join(item["tags"])),
    ("AGE", age("createdAt")),
]
VERSIONS = [
    ("VERSION", field("version")),
    ("STATUS", field("status")),
    ("AGE", age("createdAt")),
    ("CHANGED", age("updatedAt")),
]


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Option(help="Only of this name.")] = None,
    limit: Limit = 100,
    as_json: AsJsonOrTable = False,
) -> None:
    """Newest first.

    For instance: modelyard models list
    """
    query = given(name=name, **{"per-page": min(limit, 1000)})
    json_or_table(Client("/api").items("/models", params=query), COLUMNS, as_json=as_json)


@app.command()
def show(
    model: Model, version: Annotated[str | None, typer.Argument()] = None, as_json: AsJson = False
) -> None:
    """Everything that is known about a model, or about one version of it.

    For instance: modelyard models show classifier 1.0.0
    """
    client, path = _found(model, version)
    json_or_row(client.call("GET", path), COLUMNS if version is None else VERSIONS)


@app.command()
def create(name: str, version: Version) -> None:
    """Make a model with its first version, and print its ID.

    For instance: modelyard models create classifier 1.0.0
    """
    made = Client("/api").call("POST", "/models", json={"name": name, "version": version})
    print(made["identifier"])


@app.command()
def update(
    model: Model,
    change: Annotated[str, typer.Argument(help="JSON, @FILE, or - for standard input.")],
    version: Annotated[str | None, typer.Option(help="Of this version, not the model.")] = None,
) -> None:
    """Change a model (description, tags) or a version (requirement, timeout, inputs, status …).

    For instance: modelyard models update classifier --version 1.0.0 '{"timeout": {"run": 90000}}'
    """
    client, path = _found(model, version)
    as_document(client.call("PATCH", path, json=json_value(change, "The change")))


@app.command()
def versions(
    model: Model,
    add: Annotated[str | None, typer.Option(help="Make this version first.")] = None,
    as_json: AsJsonOrTable = False,
) -> None:
    """Versions of a model, oldest first.

    For instance: modelyard models versions classifier --add 1.1.0
    """
    client, path = _found(model)
    if add is not None:
        client.call("POST", f"{path}/versions", json={"version": add})
    json_or_table(client.items(f"{path}/versions"), VERSIONS, as_json=as_json)


@app.command()
def image(
    model: Model,
    version: Version,
    reference: Annotated[str | None, typer.Argument(help="An image to link to.")] = None,
    username: Annotated[str | None, typer.Option(help="Whom to log in as.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read its password from standard input.")
    ] = False,
    platform: Annotated[str | None, typer.Option(help="For instance linux/arm64.")] = None,
) -> None:
    """The image of a version; with a reference, link that one and wait until it is proved.

    An archive is delivered by: modelyard images push FILE --model MODEL --version VERSION

    For instance: modelyard models image classifier 1.0.0 registry.example.com/team/model:1
    """
    client, path = _found(model, version)
    path += "/container-image"
    if reference is not None:
        link = given(url=reference, username=username)
        if username is not None:
            link["password"] = secret("password", is_piped=password_stdin)
        asked = {"json": {"registry": link}, "params": given(platform=platform)}
        client.call("POST", path, **asked)
        _watched(client, path, percentage="uploadPercentage")
    as_document(client.call("GET", path))


@app.command()
def load(model: Model, version: Version, status: Look = False) -> None:
    """Load test: start a container of the image, ask for its status, and end it again.

    For instance: modelyard models load classifier 1.0.0
    """
    client, path = _found(model, version)
    path += "/load-process"
    if not status:
        asked = partial(client.call, "POST", path, timeout=WITHOUT_END)
        _watched(client, path, _in_background(asked))
    as_document(client.call("GET", path))


@app.command("test")
def trial(model: Model, version: Version, status: Look = False) -> None:
    """Trial run: have a fresh container take the version's test input. See also `input`.

    For instance: modelyard models test classifier 1.0.0
    """
    client, path = _found(model, version)
    path += "/run-process"
    if not status:
        client.call("POST", path)
        _watched(client, path)
    found = client.call("GET", path)
    as_document(found)
    if found["result"] and found["result"]["status"] == "FAILED":
        raise typer.Exit(FAILED)


@app.command()
def run(
    model: Model,
    version: Version,
    data: Annotated[str, typer.Option(help="JSON: text, @FILE, or - for stdin.")] = "{}",
) -> None:
    """Have a version answer a JSON object. A container is started unless one is there.

    For instance: modelyard models run classifier 1.0.0 --data '{"text": "def f(): pass"}'
    """
    client, path = _found(model, version)
    with content(data) as body:
        answer = client.answer(
            "POST",
            f"{path}/run",
            content=body,
            headers={"Content-Type": "application/json"},
            timeout=WITHOUT_END,
        )
    sys.stdout.buffer.write(answer.content)
    if sys.stdout.isatty():
        print()


@app.command()
def shutdown(model: Model, version: Version) -> None:
    """End the container that answers calls, if there is one.

    For instance: modelyard models shutdown classifier 1.0.0
    """
    client, path = _found(model, version)
    client.call("POST", f"{path}/shutdown", timeout=WITHOUT_END)
    echo(err, "ended")


@app.command("input")
def input_(
    model: Model,
    version: Version,
    file: Annotated[Path, typer.Argument(help="What the trial run is given.")],
    name: Annotated[str, typer.Option(help="One that the version declares.")] = "input",
) -> None:
    """Keep a file as the test input of that name, for `test`.

    For instance: modelyard models input classifier 1.0.0 question.json
    """
    client, path = _found(model, version)
    with opened(str(file)) as source:
        client.call("POST", f"{path}/testInput", params={"name": name}, files={"file": source})
    echo(err, "kept")


@app.command()
def sample(
    model: Model,
    version: Version,
    which: Annotated[str, typer.Argument(help="input or output")],
    data: Annotated[str | None, typer.Argument(help="JSON, @FILE, or - for stdin.")] = None,
) -> None:
    """The example of an input or an output; with data, that becomes it.

    For instance: modelyard models sample classifier 1.0.0 input '{"text": "hello"}'
    """
    if which not in ("input", "output"):
        raise typer.BadParameter("must be input or output.", param_hint="WHICH")
    client, path = _found(model, version)
    path += f"/sample-{which}"
    if data is not None:
        kinds = (dict, list, str, int, float, bool, type(None))
        client.answer("PUT", path, json=json_value(data, "The sample", kinds))
    print(client.answer("GET", path).text)


@app.command()
def picture(
    model: Model,
    file: Annotated[Path | None, typer.Argument(help="PNG, JPEG, GIF or WebP.")] = None,
    description: Annotated[str, typer.Option(help="What is to be seen.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it there.")] = None,
    as_json: OnlyJson = False,
) -> None:
    """The picture of a model; with a file, that becomes it.

    For instance: modelyard models picture classifier --output picture.png
    """
    client, path = _found(model)
    if file is not None:
        with opened(str(file)) as source:
            asked = {"params": {"description": description}, "files": {"file": source}}
            client.call("POST", f"{path}/image", **asked)
    kept = client.call("GET", f"{path}/image")
    if output is not None:
        output.write_bytes(base64.b64decode(kept["content"]))
    if as_json:
        as_document(kept)
    else:
        echo(out, f"{kept['mediaType']}, {kept['size']} B {kept['description']}".rstrip())


@app.command()
def requirements(as_json: AsJsonOrTable = False) -> None:
    """How much of a node a model may ask for.

    For instance: modelyard models requirements
    """
    columns = [
        ("ID", field("requirementId")),
        ("CPU", field("cpuAmount")),
        ("MEMORY", field("memoryAmount")),
        ("GPUS", field("gpuUnits")),
    ]
    json_or_table(Client("/api").items("/models/requirements/account"), columns, as_json=as_json)


def _found(model: str, version: str | None = None) -> tuple[Client, str]:
    """The path of a model, by name or ID, or of a version of it. Exits when there is none."""
    client = Client("/api")
    path = f"/models/{_quoted(model_id(client, model))}"
    return client, path if version is None else f"{path}/versions/{_quoted(version)}"


def model_id(client: Client, model: str) -> str:
    """Of the model that is called so; what no model is called counts as an ID."""
    named = client.items("/models", params={"name": model})
    if len(named) > 1:
        ids = ", ".join(str(each["identifier"]) for each in named)
        refuse(f"Several models are called {model}:", f"give an ID, {ids}.")
    return str(named[0]["identifier"]) if named else model


def _quoted(name: str) -> str:
    if not name.strip("."):
        refuse("Not Found:", f"There is no {name!r}.", code=MISSING)
    return quote(name, safe="")


def _in_background(act: Callable[[], Any]) -> Future[Any]:
    """Whoever is interrupted does not wait for it."""
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(act())
        except Exception as error:  # noqa: BLE001 (raised again for who reads the outcome)
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome


def _watched(
    client: Client, path: str, acting: Future[Any] | None = None, percentage: str = "percentage"
) -> None:
    """Shows what is to be read at `path` until that is at its end, and `acting` is done.

    Exits with what the server says when it ended badly.
    """
    with drawn("") as draw:
        while True:
            is_done = acting is None or acting.done()
            if acting is not None and is_done:
                acting.result()
            found = client.call("GET", path)
            draw(str(found.get("stepName") or ""), found[percentage])
            if is_done and found[percentage] == 100:
                return
            time.sleep(POLL_S)

"""`modelyard demo`: the sample model from upload to one inference, on a stack of its own.

The stack is imported by the function that runs it: see `cli.commands.stack`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import typer

from cli.client import Client, ask_container
from cli.commands.stack import read_settings
from cli.console import FAILED, INTERRUPTED, echo, err, human_bytes, out, refuse
from cli.progress import UploadLines, follow
from cli.uploads import push_archive
from pipeline.errors import YardError
from pipeline.stack.pieces import sample_model
from pipeline.uploads import tus

QUESTION = "def greet(name: str) -> str:\n    return f'Hello, {name}!'\n"
STATUS_S = 60
POLL_S = 0.1


class StepFailed(Exception):
    """A step failed; the message says why."""


class Steps:
    """Numbers the steps, times them, and remembers them for the summary."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []
        self.current = ""
        self._began = time.monotonic()

    def begin(self, title: str) -> None:
        self.end()
        self.current = title
        self._began = time.monotonic()
        echo(out, (f"\n{len(self.done) + 1}. {title}", "bold"))

    def end(self) -> None:
        if self.current:
            self.done.append((self.current, time.monotonic() - self._began))
            self.current = ""

    def print(self, text: str) -> None:
        echo(out, f"   {text}")


def demo() -> None:
    """Start a stack, take a real model image through it, ask it once, and stop everything.

    Exits with 1 when a step fails, and says which and why.

    For instance: modelyard demo
    """
    steps = Steps()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="modelyard-demo-"))
    try:
        finished = asyncio.run(_with_stack(folder, steps))
    except (YardError, StepFailed) as error:
        refuse(f"\nFailed at: {steps.current}.", str(error), code=FAILED)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not finished:
        echo(err, "\nInterrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED)
    _summarise(steps, time.monotonic() - began)


async def _with_stack(folder: Path, steps: Steps) -> bool:
    """False when it was interrupted. The stack is down again when this returns."""
    from pipeline.stack.plan import StartOptions
    from pipeline.stack.running import run_stack

    steps.begin("Start broker, store, registry, engine, server, worker and agent")
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    stack = asyncio.create_task(
        run_stack(
            read_settings(state=folder),
            environ,
            StartOptions(auto_ports=True),
            report=steps.print,
            ready=ready.set_result,
        )
    )
    try:
        first: list[asyncio.Future[Any]] = [stack, ready]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if stack.done():
            await stack
            return False
        os.environ.update(ready.result())
        using = asyncio.create_task(_run_steps(steps))
        await asyncio.wait({stack, using}, return_when=asyncio.FIRST_COMPLETED)
        if not using.done():
            using.cancel()
            return False
        await using
        return True
    finally:
        stack.cancel()
        await asyncio.wait({stack})


async def _run_steps(steps: Steps) -> None:
    steps.begin("Build the sample model image (a file-type classifier)")
    docker_host = os.environ["MODELYARD_ENGINE"]
    archive = await sample_model.build(docker_host, report=steps.print)
    steps.print(f"{archive} ({human_bytes(archive.stat().st_size)})")
    # What is sent and asked here blocks, and is left alone when the stack goes down under it.
    await asyncio.to_thread(_use, steps, archive)


def _use(steps: Steps, archive: Path) -> None:
    client = Client()
    name = _upload(steps, client, archive)
    container = _launch(steps, client, name)
    port = container["ports"][0]
    address = f"http://{port['address']}:{port['host']}"
    _load_test(steps, address)
    _infer(steps, address)
    steps.begin("Stop and remove it")
    client.call("DELETE", f"/containers/{container['uuid']}", params={"wait": 60})
    steps.print("removed; nothing is leased any more")
    steps.end()


def _upload(steps: Steps, client: Client, archive: Path) -> str:
    """What the image is called."""
    name = f"demo/{sample_model.NAME}:1"
    steps.begin(f"Upload it as {name}, and prove that it is whole and runnable")
    metadata = tus.metadata({"name": name, "filename": archive.name})
    view = push_archive(client, archive, metadata, UploadLines(steps.print)).view
    if view["status"] != "completed":
        raise StepFailed(view["message"])
    steps.print("proved and stored")
    image = client.call("GET", client.path_to("images", name))
    steps.print(f"{image['status']}: {image['name']}")
    steps.print(f"{image['digest']}, {human_bytes(image['size_bytes'])}")
    for finding in image["findings"]:
        steps.print(f"{finding['severity']}: {finding['message']}")
    return name


def _launch(steps: Steps, client: Client, image: str) -> dict[str, Any]:
    steps.begin("Launch it on a node")
    spec = {"image": image, "name": "demo", "health": {"port": 8080, "path": "/status"}}
    container = client.call("POST", "/containers", json=spec)
    container = follow(
        client,
        "containers",
        container,
        until={"RUNNING", "FAILED", "STOPPED"},
        each=lambda event: steps.print(_line_of(event)),
    )
    if container["status"] != "RUNNING":
        raise StepFailed(container["reason"])
    return container


def _load_test(steps: Steps, address: str) -> None:
    steps.begin("Load test: GET /status until the model answers")
    deadline = time.monotonic() + STATUS_S
    while (answer := ask_container("GET", f"{address}/status", timeout_s=5)).status != 200:
        if time.monotonic() > deadline:
            raise StepFailed(f"GET /status: {answer.status} {answer.text} after {STATUS_S} s")
        time.sleep(POLL_S)
    steps.print(answer.text)


def _infer(steps: Steps, address: str) -> None:
    steps.begin("One inference: what kind of text is this?")
    for line in QUESTION.splitlines():
        steps.print(f"| {line}")
    answer = ask_container("POST", f"{address}/run", {"text": QUESTION}, timeout_s=60)
    if answer.status != 200:
        raise StepFailed(f"POST /run: {answer.status} {answer.text[:500]}")
    steps.print(answer.text)


def _line_of(event: dict[str, Any]) -> str:
    data = event.get("data", event)
    progress = data.get("progress")
    percentage = f" {progress['percentage']} %" if progress else ""
    return f"{data.get('status', '')}{percentage} {data.get('reason') or ''}".rstrip()


def _summarise(steps: Steps, seconds: float) -> None:
    echo(out, ("\nEverything worked.", "bold green"))
    for title, took in steps.done:
        echo(out, f"   {took:6.1f} s  {title}")
    echo(out, f"   {seconds:6.1f} s  in total; everything is stopped again")

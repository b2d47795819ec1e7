"""`modelyard demo`: the sample model from upload to one inference, on a stack of its own.

The stack is imported by the function that runs it: see `cli.stack`.
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

from cli.archive_push import push_archive
from cli.client import FAILED, Client, ask_container, err, out, say
from cli.configuration import read_settings
from cli.lines import Lines
from cli.progress import follow
from cli.show import human_bytes
from pipeline.errors import YardError
from pipeline.rules import tus
from pipeline.stack import sample_model
from pipeline.stack.names import PIECES
from schemas.upload import UploadWish

INTERRUPTED = 130
QUESTION = "def greet(name: str) -> str:\n    return f'Hello, {name}!'\n"
STATUS_S = 60
POLL_S = 0.1


class Step(Exception):
    """A step failed; the message says why."""


class Walk:
    """Numbers the steps, times them, and remembers them for the summary."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []
        self.current = ""
        self._began = time.monotonic()

    def begin(self, title: str) -> None:
        self.end()
        self.current = title
        self._began = time.monotonic()
        say(out, (f"\n{len(self.done) + 1}. {title}", "bold"))

    def end(self) -> None:
        if self.current:
            self.done.append((self.current, time.monotonic() - self._began))
            self.current = ""

    def say(self, text: str) -> None:
        say(out, f"   {text}")


def demo() -> None:
    """Start a stack, take a real model image through it, ask it once, and stop everything.

    Exits non-zero when a step fails, and says which and why.
    """
    walk = Walk()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="modelyard-demo-"))
    try:
        finished = asyncio.run(_with_stack(folder, walk))
    except (YardError, Step) as error:
        say(err, (f"\nFailed at: {walk.current}.", "red"), f" {error}")
        raise typer.Exit(FAILED) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not finished:
        say(err, "\nInterrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED)
    _summarise(walk, time.monotonic() - began)


async def _with_stack(folder: Path, walk: Walk) -> bool:
    """False when it was interrupted. The stack is down again when this returns."""
    from pipeline.stack.running import Wishes, run_stack

    walk.begin("Start broker, store, registry, engine, server, worker and agent")
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    stack = asyncio.create_task(
        run_stack(
            read_settings(state=folder),
            environ,
            Wishes(True, frozenset(PIECES)),
            report=walk.say,
            ready=ready.set_result,
        )
    )
    try:
        first: list[asyncio.Future[Any]] = [stack, ready]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if stack.done():
            await stack
            return False
        os.environ.update(ready.result(), MODELYARD_STATE=str(folder))
        tour = asyncio.create_task(_tour(walk))
        await asyncio.wait({stack, tour}, return_when=asyncio.FIRST_COMPLETED)
        if not tour.done():
            tour.cancel()
            return False
        await tour
        return True
    finally:
        stack.cancel()
        await asyncio.wait({stack})


async def _tour(walk: Walk) -> None:
    walk.begin("Build the sample model image (a file-type classifier)")
    docker_host = os.environ["DOCKER_HOST"]
    archive = await sample_model.build(docker_host, report=walk.say)
    walk.say(f"{archive} ({human_bytes(archive.stat().st_size)})")
    # What is sent and asked here blocks, and is left alone when the stack goes down under it.
    await asyncio.to_thread(_use, walk, archive)


def _use(walk: Walk, archive: Path) -> None:
    client = Client()
    reference = _upload(walk, client, archive)
    container = _launch(walk, client, reference)
    port = container["ports"][0]
    address = f"http://{port['address']}:{port['host']}"
    _load_test(walk, address)
    _infer(walk, address)
    walk.begin("Stop and remove it")
    client.call("DELETE", f"/containers/{container['uuid']}", params={"wait": 60})
    walk.say("removed; nothing is leased any more")
    walk.end()


def _upload(walk: Walk, client: Client, archive: Path) -> str:
    """The reference under which the image is now in the platform's registry."""
    name = f"demo/{sample_model.NAME}:1"
    walk.begin(f"Upload it as {name}, and prove that it is whole and runnable")
    wish = UploadWish(name=name, filename=archive.name)
    view = push_archive(client, archive, tus.metadata(wish), Lines(walk.say)).view
    if view["status"] != "completed":
        raise Step(view["message"])
    reference = str(view["image"]["reference"])
    [image] = client.pages("/images", limit=1, name=name)
    walk.say(f"{image['status']}: {reference}")
    walk.say(f"{image['digest']}, {human_bytes(image['size_bytes'])}")
    for finding in image["findings"]:
        walk.say(f"{finding['severity']}: {finding['message']}")
    return reference


def _launch(walk: Walk, client: Client, reference: str) -> dict[str, Any]:
    walk.begin("Launch it on a node")
    spec = {"image": reference, "name": "demo", "health": {"port": 8080, "path": "/status"}}
    container = client.call("POST", "/containers", json=spec)
    container = follow(
        client,
        "containers",
        container,
        until={"RUNNING", "FAILED", "STOPPED"},
        each=lambda event: walk.say(_told(event)),
    )
    if container["status"] != "RUNNING":
        raise Step(container["reason"])
    return container


def _load_test(walk: Walk, address: str) -> None:
    walk.begin("Load test: GET /status until the model answers")
    deadline = time.monotonic() + STATUS_S
    while (answer := ask_container("GET", f"{address}/status", timeout_s=5)).status != 200:
        if time.monotonic() > deadline:
            raise Step(f"GET /status: {answer.status} {answer.text} after {STATUS_S} s")
        time.sleep(POLL_S)
    walk.say(answer.text)


def _infer(walk: Walk, address: str) -> None:
    walk.begin("One inference: what kind of text is this?")
    for line in QUESTION.splitlines():
        walk.say(f"| {line}")
    answer = ask_container("POST", f"{address}/run", {"text": QUESTION}, timeout_s=60)
    if answer.status != 200:
        raise Step(f"POST /run: {answer.status} {answer.text[:500]}")
    walk.say(answer.text)


def _told(event: dict[str, Any]) -> str:
    data = event.get("data", event)
    progress = data.get("progress")
    percentage = f" {progress['percentage']} %" if progress else ""
    return f"{data.get('status', '')}{percentage} {data.get('reason') or ''}".rstrip()


def _summarise(walk: Walk, seconds: float) -> None:
    say(out, ("\nEverything worked.", "bold green"))
    for title, took in walk.done:
        say(out, f"   {took:6.1f} s  {title}")
    say(out, f"   {seconds:6.1f} s  in total; everything is stopped again")

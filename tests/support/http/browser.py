"""A real browser, driven over WebDriver: headless Chromium through chromedriver."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import program
from pipeline.stack.processes.process import Process
from tests.support.processes import any_free
from tests.support.waiting import eventually

START_S = 20
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--window-size=1440,1000",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of an element's id in every answer, fixed by the W3C."""


class Browser:
    """One window. Elements are named by CSS selectors; where several match, the first one is."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._session = ""

    async def begin(self, folder: Path) -> None:
        """Everything that it writes lies in `folder`, which is empty at first."""
        options = {
            "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"],
            "binary": str(_leashed(folder, program("chromium", remedy="run `make setup`."))),
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        begun = await self._send("POST", "/session", capabilities={"alwaysMatch": wanted})
        self._session = f"/session/{begun['sessionId']}"

    async def end(self) -> None:
        if self._session:
            await self._send("DELETE", self._session)

    async def go(self, url: str) -> None:
        """Returns when the page and its modules are loaded."""
        await self._send("POST", f"{self._session}/url", url=url)

    async def run(self, script: str, *arguments: Any) -> Any:
        """What the function body `script` returns, awaited; it sees `arguments`."""
        body = {"script": script, "args": arguments}
        return await self._send("POST", f"{self._session}/execute/sync", **body)

    async def until(self, expression: str, *arguments: Any, timeout_s: float = 15) -> None:
        """Raises AssertionError, with what page and console say, when it stays false."""

        async def holds() -> bool:
            return bool(await self.run(f"return {expression}", *arguments))

        try:
            await eventually(holds, timeout_s=timeout_s)
        except AssertionError as error:
            seen, said = await self.text("body"), await self.complaints()
            raise AssertionError(
                f"never true: {expression} {arguments}; seen: {seen}; console: {said}"
            ) from error

    async def text(self, css: str) -> str:
        """As a reader sees it."""
        return str(await self._send("GET", f"{await self._element(css)}/text"))

    async def click(self, css: str) -> None:
        await self._send("POST", f"{await self._element(css)}/click")

    async def type(self, css: str, text: str) -> None:
        await self._send("POST", f"{await self._element(css)}/value", text=text)

    async def choose(self, css: str, label: str) -> None:
        """In a select, as a reader would: by what stands there."""
        await self.type(css, label)

    async def press(self, key: str) -> None:
        """On whatever has the focus."""
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        await self._send("POST", f"{self._session}/actions", actions=[keyboard])

    async def devtools(self, command: str, **parameters: Any) -> Any:
        path = f"{self._session}/goog/cdp/execute"
        return await self._send("POST", path, cmd=command, params=parameters)

    async def complaints(self) -> list[str]:
        """Warnings and errors of the console since the last call: broken policies, for one."""
        said = await self._send("POST", f"{self._session}/se/log", type="browser")
        # Interfaces that engines on this machine make and remove are none of the page's concern.
        told = [one for one in said if "net::ERR_NETWORK_CHANGED" not in one["message"]]
        return [one["message"] for one in told if one["level"] in ("WARNING", "SEVERE")]

    async def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(await self._send("GET", f"{self._session}/screenshot")))

    async def _element(self, css: str) -> str:
        found = await self._send(
            "POST", f"{self._session}/element", using="css selector", value=css
        )
        return f"{self._session}/element/{found[_ELEMENT]}"

    async def _send(self, method: str, path: str, **body: Any) -> Any:
        answer = await self._http.request(method, path, json=body if method == "POST" else None)
        value = answer.json()["value"]
        if answer.is_error:
            raise AssertionError(f"{path}: {value['error']}: {value['message']}")
        return value


@asynccontextmanager
async def a_browser(folder: Path) -> AsyncIterator[Browser]:
    """All that it writes lies in `folder`; it ends with this process, however that ends."""
    port = any_free(random.Random())
    driver = Process(folder / "chromedriver.log")
    command = [program("chromedriver", remedy="run `make setup`."), f"--port={port}"]
    driver.spawn(command, {**os.environ, "HOME": str(folder)})
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            assert await probes.until(lambda: _is_ready(http), timeout_s=START_S), "no chromedriver"
            browser = Browser(http)
            try:
                await browser.begin(folder)
                yield browser
            finally:
                await browser.end()
    finally:
        await driver.terminate(grace_s=5)


def _leashed(folder: Path, chromium: str) -> Path:
    """A program that is the browser, but does not outlive the driver that starts it."""
    script = folder / "chromium"
    script.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig KILL -- {chromium} "$@"\n')
    script.chmod(0o755)
    return script


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return bool((await http.get("/status")).json()["value"]["ready"])
    except httpx.TransportError:
        return False

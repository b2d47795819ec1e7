"""One system and one browser for all tests of the page, and the page as they use it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import now
from pipeline.stack.pieces.app import ApiPiece
from pipeline.stack.pieces.nats import NatsPiece
from schemas.base import Record
from schemas.message import Message
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.http.browser import Browser, a_browser
from tests.support.systems.services import Services
from tests.support.systems.system import System, a_system

ORG = "default"
LIVE = "document.querySelector('#state').dataset.state === 'live'"
ESCAPE, ENTER = "\ue00c", "\ue007"
COUNTS = (
    "sh",
    "-c",
    "trap 'exit 0' TERM; i=0;"
    ' while :; do echo "line $i <img src=x>"; i=$((i+1)); sleep 0.1; done',
)
"""A command that goes on writing numbered lines until SIGTERM."""


@dataclass
class Yard:
    """One of each, running; its GPUs are simulated."""

    system: System
    api: ApiPiece
    nats: NatsPiece
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api.port}/"


@pytest.fixture(scope="module")
def counting(registry_host: str) -> str:
    """Reference of an image that writes numbered lines."""
    push(busybox_image(command=COUNTS), registry_host, "browser/counts", "1")
    return f"{registry_host}/browser/counts:1"


@pytest.fixture(scope="module")
async def yard(
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
    mongo_url: str,
    registry_host: str,
    docker_host: str,
) -> AsyncIterator[Yard]:
    nats = services.nats()
    await nats.start()
    where = {
        "NATS_URL": nats.url,
        "MONGO_URL": mongo_url,
        "REGISTRY": registry_host,
        "DOCKER_HOST": docker_host,
        "ACCESS_TOKEN_S": "3600",
        "SIMULATED_GPUS": "4xH100-80GB",
    }
    folder = tmp_path_factory.mktemp("browser")
    async with a_system(folder, random.Random(), **where) as system:
        api = await system.api()
        await system.worker()
        await system.agent()
        await system.login(api)
        await system.nodes(api)
        token = system.http.headers["Authorization"].removeprefix("Bearer ")
        yield Yard(system, api, nats, token)
    await nats.stop()


@pytest.fixture(scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with a_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
async def browser(chromium: Browser) -> Browser:
    """On an empty page; what an earlier test's page complained about is forgotten."""
    await chromium.go("about:blank")
    await chromium.complaints()
    return chromium


class Page:
    """The dashboard with a valid token."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    @classmethod
    async def open(cls, browser: Browser, yard: Yard, token: str = "") -> Page:
        await browser.go("about:blank")
        await browser.go(f"{yard.url}#token={token or yard.token}")
        await browser.until(LIVE)
        return cls(browser)

    async def visit(self, address: str) -> None:
        """`images`, `images/<id>`, `images?status=FAILED`; returns when that page is shown."""
        await self.browser.run("location.hash = `#/${arguments[0]}`", address)
        shown = "document.querySelector('#page').dataset.address === arguments[0]"
        await self.browser.until(shown, address)

    async def row(self, section: str, name: str) -> str:
        """Selector of the row whose record goes by `name`, once it is in its list."""
        await self.visit(section)
        find = (
            f"[...document.querySelectorAll('#{section} tbody tr')]"
            ".find(row => row.querySelector('strong').textContent === arguments[0])"
        )
        await self.browser.until(find, name)
        id = await self.browser.run(f"return {find}.dataset.id", name)
        return f'#{section} tr[data-id="{id}"]'

    async def until_status(self, row: str, status: str, timeout_s: float = 20) -> None:
        await self.browser.until(
            "document.querySelector(arguments[0])?.dataset.status === arguments[1]",
            row,
            status,
            timeout_s=timeout_s,
        )

    async def until_gone(self, row: str) -> None:
        await self.browser.until("document.querySelector(arguments[0]) === null", row)

    async def until_held(self, gpus: int) -> None:
        await self.visit("nodes")
        said = "document.querySelector('#nodes').innerText.includes(arguments[0])"
        await self.browser.until(said, f"{gpus} of 4 held")

    async def press_button(self, row: str, label: str) -> None:
        """The button or link of the row that says so, whenever it comes."""
        find = (
            "[...document.querySelectorAll(`${arguments[0]} :is(button, a)`)]"
            ".find(one => one.textContent === arguments[1])"
        )
        await self.browser.until(find, row, label)
        await self.browser.run(f"{find}.click()", row, label)

    async def event_names(self) -> list[str]:
        """Oldest first."""
        script = "return [...document.querySelectorAll('#events strong')].map(e => e.textContent)"
        found: list[str] = await self.browser.run(script)
        return found[::-1]


@pytest.fixture
async def page(browser: Browser, yard: Yard) -> Page:
    return await Page.open(browser, yard)


@pytest.fixture
async def bus(yard: Yard) -> AsyncIterator[Bus]:
    async with Bus.open(yard.nats.url, name="test") as bus:
        yield bus


async def happen(bus: Bus, *names: str, kind: str = "changed", **facts: Any) -> None:
    for name in names:
        message = Message(
            id=new_id(),
            subject=topology.event(ORG, "test", "t1", kind),
            type=f"modelyard.test.{kind}",
            time=now(),
            data={"id": "t1", "name": name, **facts},
        )
        await bus.publish(message)


async def store(yard: Yard, *records: Record) -> None:
    async with Store.open(yard.system.settings["MONGO_URL"], yard.system.database) as store:
        for record in records:
            await store.insert(record)

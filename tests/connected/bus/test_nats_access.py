"""What the user of one org can and cannot do on the real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import NoStreamResponseError

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.records.kernel import now
from pipeline.stack.broker_users import BrokerUsers
from pipeline.stack.pieces.nats import NatsPiece, inbox_prefix, org_user
from pipeline.stack.state import Keys, State
from schemas.organisation import Organisation
from schemas.states import OrganisationStatus
from tests.support.systems.services import ORGS
from tests.support.waiting import eventually

Connect = Callable[[str], Awaitable["OrgClient"]]


class OrgClient:
    def __init__(self, client: Client, refusals: asyncio.Queue[str]) -> None:
        self.client = client
        self.js = client.jetstream(timeout=2)
        self._refusals = refusals

    async def refusal(self) -> str:
        """The next thing that the server would not let it do."""
        async with asyncio.timeout(30):
            return await self._refusals.get()


@pytest.fixture
async def system(own_nats: NatsPiece) -> AsyncIterator[Client]:
    client = await nats.connect(own_nats.url)
    js = client.jetstream()
    for plan in (topology.COMMANDS, topology.EVENTS):
        retention = RetentionPolicy.WORK_QUEUE if plan.work_queue else RetentionPolicy.LIMITS
        await js.add_stream(
            StreamConfig(name=plan.name, subjects=list(plan.subjects), retention=retention)
        )
    async with Bus.open(own_nats.url, name="test") as bus:
        for org in ("acme", "other"):
            await bus.prepare_org(org)
    yield client
    await client.close()


@pytest.fixture
async def connect(own_nats: NatsPiece, system: Client) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as clients:

        async def connect(org: str) -> OrgClient:
            refusals: asyncio.Queue[str] = asyncio.Queue()

            async def refused(error: Exception) -> None:
                refusals.put_nowait(str(error))

            url = f"nats://{org_user(org)}:{ORGS[org]}@127.0.0.1:{own_nats.port}"
            client = await nats.connect(
                url, inbox_prefix=inbox_prefix(org).encode(), error_cb=refused
            )
            clients.push_async_callback(client.close)
            return OrgClient(client, refusals)

        yield connect


async def test_an_org_gives_commands_with_a_receipt_and_without_duplicates(
    system: Client, connect: Connect
) -> None:
    acme = await connect("acme")
    headers = {"Nats-Msg-Id": "once", "ce-id": "once"}
    subject = topology.command("acme", "image", "create")
    await acme.js.publish(subject, b"{}", headers=headers)
    again = await acme.js.publish(subject, b"{}", headers=headers)
    assert again.duplicate
    stored = await system.jetstream().get_msg(topology.asked("acme").name, seq=1)
    assert (stored.subject, stored.headers) == ("yard.ask.acme.image.create", headers)


async def test_what_one_org_calls_its_message_makes_no_message_of_another_vanish(
    system: Client, connect: Connect
) -> None:
    headers = {"Nats-Msg-Id": "the-same", "ce-id": "the-same"}
    for org in ("acme", "other"):
        client = await connect(org)
        subject = topology.command(org, "image", "create")
        receipt = await client.js.publish(subject, b"{}", headers=headers)
        assert not receipt.duplicate
        assert (receipt.stream, receipt.seq) == (topology.asked(org).name, 1)


async def test_an_org_hears_its_own_events_live(system: Client, connect: Connect) -> None:
    acme = await connect("acme")
    heard = await acme.client.subscribe("yard.evt.acme.>")
    await acme.client.flush()
    await system.publish(topology.event("other", "image", "1", "ready"), b"theirs")
    await system.publish(topology.event("acme", "image", "1", "ready"), b"ours")
    assert (await heard.next_msg(timeout=30)).data == b"ours"


async def test_an_org_fetches_and_acknowledges_its_own_past_events(
    system: Client, connect: Connect
) -> None:
    js = system.jetstream()
    await js.publish(topology.event("other", "image", "1", "ready"), b"theirs")
    await js.publish(topology.event("acme", "image", "1", "ready"), b"first")
    await js.publish(topology.event("acme", "image", "2", "ready"), b"second")
    acme = await connect("acme")
    reader = await acme.js.pull_subscribe_bind(
        topology.org_reader("acme").durable,
        topology.EVENTS.name,
        inbox_prefix=f"{inbox_prefix('acme')}.".encode(),
    )
    messages = await reader.fetch(2, timeout=30)
    assert [message.data for message in messages] == [b"first", b"second"]
    for message in messages:
        await message.ack_sync(timeout=30)
    left = await js.consumer_info(topology.EVENTS.name, topology.org_reader("acme").durable)
    assert (left.num_ack_pending, left.num_pending) == (0, 0)


@pytest.mark.parametrize(
    "subject",
    [
        "yard.cmd.acme.image.create",
        "yard.ask.acme.image.create",
        "yard.ask.other.image.create",
        "yard.evt.other.image.1.ready",
        "yard.evt.acme.image.1.ready",
        "yard.node.gpu-1.run",
        "yard.dead.yard.cmd.acme.image.create",
        "$JS.API.STREAM.PURGE.YARD_EVENTS",
        "$JS.API.STREAM.MSG.GET.YARD_EVENTS",
        "$JS.API.DIRECT.GET.YARD_EVENTS",
        "$JS.API.CONSUMER.CREATE.YARD_EVENTS.x.yard.evt.other.>",
        "$JS.API.CONSUMER.MSG.NEXT.YARD_EVENTS.org-acme",
        "$JS.API.CONSUMER.MSG.NEXT.YARD_COMMANDS.image-create",
        "$JS.ACK.YARD_EVENTS.org-acme.1.1.1.1.0",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_an_org_may_not_say(connect: Connect, subject: str) -> None:
    other = await connect("other")
    await other.client.publish(subject, b"{}")
    assert "permissions violation for publish" in await other.refusal()


@pytest.mark.parametrize(
    "subject",
    [
        *(">", "yard.>", "yard.evt.>", "yard.evt.acme.>", "yard.evt.*.image.>"),
        *("yard.cmd.other.>", "_INBOX.>", "_INBOX_acme.>", "$JS.>", "$SYS.>"),
    ],
)
async def test_an_org_may_not_listen_to(connect: Connect, subject: str) -> None:
    other = await connect("other")
    await other.client.subscribe(subject)
    assert "permissions violation for subscription" in await other.refusal()


async def test_a_receipt_cannot_be_sent_into_the_commands_of_another_org(
    system: Client, connect: Connect
) -> None:
    other = await connect("other")
    mine, theirs = (topology.command(org, "image", "create") for org in ("other", "acme"))
    await other.client.publish(mine, b"{}", reply=theirs)
    await other.js.publish(mine, b"last")
    js = system.jetstream()
    stored = await js.stream_info(topology.asked("other").name)
    assert stored.state.messages == 2
    for plan in (topology.COMMANDS, topology.asked("acme")):
        assert (await js.stream_info(plan.name)).state.messages == 0


@pytest.mark.parametrize("given", [{}, {"user": "org-acme", "pass": "guess"}])
async def test_a_stranger_is_turned_away(own_nats: NatsPiece, given: dict[str, str]) -> None:
    assert b"Authorization Violation" in await login(own_nats, given)


async def test_an_org_that_comes_later_is_admitted_while_others_go_on(
    own_nats: NatsPiece, system: Client, store: Store, tmp_path: Path
) -> None:
    """As `modelyard up` does it: the broker is not started anew."""
    pid, state = own_nats.pid, State(tmp_path)
    Keys(orgs=ORGS).save(state.keys_file)
    users = BrokerUsers(store, own_nats, state)
    at = {"org": "acme", "created_at": now(), "updated_at": now()}
    late = Organisation(uuid="late", slug="late", name="Late", **at)
    await store.insert(late)
    await users.look()
    password = Keys.model_validate_json(state.keys_file.read_text()).orgs["late"]

    async def is_admitted() -> bool:
        return await login(own_nats, named("late", password)) == b"PONG\r\n"

    await eventually(is_admitted)
    async with Bus.open(own_nats.url, name="test") as bus:
        await bus.prepare_org("late")
    url = f"nats://{org_user('late')}:{password}@127.0.0.1:{own_nats.port}"
    client = await nats.connect(url, inbox_prefix=inbox_prefix("late").encode())
    await users.look()

    async def is_taken_in() -> bool:
        subject = topology.command("late", "image", "create")
        with suppress(NoStreamResponseError):
            receipt = await client.jetstream().publish(subject, b"{}")
            return receipt.stream == topology.asked("late").name
        return False

    await eventually(is_taken_in)
    await client.close()
    await users.look()
    assert (await login(own_nats, named("acme", ORGS["acme"]))) == b"PONG\r\n"
    assert (own_nats.pid, system.is_connected, system.stats["reconnects"]) == (pid, True, 0)
    deleted = {"status": OrganisationStatus.DELETED}
    await store.change(late, {}, at=now(), **deleted)
    await users.look()

    async def is_turned_away() -> bool:
        return b"Authorization Violation" in await login(own_nats, named("late", password))

    await eventually(is_turned_away)
    assert Keys.model_validate_json(state.keys_file.read_text()).orgs == ORGS


def named(org: str, password: str) -> dict[str, Any]:
    return {"user": org_user(org), "pass": password, "verbose": False}


async def login(server: NatsPiece, given: dict[str, Any]) -> bytes:
    """What the broker answers to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    writer.write(f"CONNECT {json.dumps(given)}\r\nPING\r\n".encode())
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


def test_the_configuration_is_readable_by_its_owner_only(own_nats: NatsPiece) -> None:
    config = own_nats.folder / "nats.conf"
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(config.read_text())["jetstream"]["sync_interval"] == "always"

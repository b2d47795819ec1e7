"""What one process revokes opens nothing in another one, from the event on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.access.service import Access
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.errors import Unauthenticated
from pipeline.events.hub import EventHub
from pipeline.organisations.service import Organisations
from pipeline.topology import parse_event
from schemas.access import Principal, Role, UserEdit
from schemas.message import Message
from schemas.organisation import OrganisationSpec
from tests.support.access import CHEAP, HOME, Clock, login, principal, records, refused, settings
from tests.support.event_log import FakeEventLog
from tests.support.tenants import Tenant
from tests.support.waiting import eventually


class Telling:
    """A broker whose events reach the other process at once."""

    def __init__(self, log: FakeEventLog) -> None:
        self._log = log

    async def publish(self, message: Message, *, timeout_s: float = 5) -> int:
        about = parse_event(message.subject)
        self._log.happen(about.kind, org=about.org, resource=about.resource, id=about.id)
        return 1


@pytest.fixture
def log() -> FakeEventLog:
    return FakeEventLog()


@pytest.fixture
async def access(store: Store, clock: Clock, log: FakeEventLog) -> Access:
    """Where things are changed."""
    access = Access(records(store, clock, Telling(log)), settings(), CHEAP)
    await access.bootstrap()
    return access


@pytest.fixture
async def other(store: Store, clock: Clock, log: FakeEventLog) -> AsyncIterator[Access]:
    """No time passes in it."""
    other = Access(records(store, clock), settings(), CHEAP)
    async with EventHub.open(log, buffer_frames=16) as hub:  # type: ignore[arg-type]
        hub.observe(other.heard)
        await log.opened.wait()
        yield other


async def test_a_disabled_user_is_out_everywhere(
    access: Access, admin: Principal, other: Access
) -> None:
    user = await Tenant(access, admin.org).user(Role.ADMIN)
    session = await login(access, user.name)
    caller = await principal(other, session)
    key = await access.tokens.issue(caller, name="ci", role=Role.MEMBER)
    await other.authenticate(f"ApiKey {key.text}")
    await access.users.edit(admin, user.uuid, UserEdit(active=False))
    for text in (session.access, key.text):
        assert await refused(other, f"Bearer {text}") == "user_inactive"


async def test_a_revoked_token_and_a_session_that_ended_are_out_everywhere(
    access: Access, admin: Principal, other: Access
) -> None:
    session = await login(access)
    key = await access.tokens.issue(admin, name="ci", role=Role.MEMBER)
    for text in (session.access, key.text):
        await other.authenticate(f"Bearer {text}")
    await access.tokens.revoke(admin, key.token.uuid)
    await access.sessions.logout(session.access)
    for text in (session.access, key.text):
        assert await refused(other, f"Bearer {text}") == "revoked"


async def test_the_tokens_of_a_deleted_organisation_are_out_everywhere(
    store: Store, clock: Clock, log: FakeEventLog, access: Access, admin: Principal, other: Access
) -> None:
    async def prepare(org: str) -> None: ...

    kept = records(store, clock, Telling(log))
    organisations = Organisations(kept, home=HOME, prepare=prepare)
    await organisations.create(admin, OrganisationSpec(slug="team"))
    text = await Tenant(access, "team").key()
    await other.authenticate(f"ApiKey {text}")
    await organisations.delete(admin, "team")
    assert await refused(other, f"ApiKey {text}") == "revoked"


async def test_a_process_that_hears_of_it_by_the_broker_refuses_a_disabled_user(
    store: Store, clock: Clock, bus: Bus
) -> None:
    """No time passes: nothing that is remembered runs out by itself."""
    here = Access(records(store, clock, bus), settings(), CHEAP)
    there = Access(records(store, clock), settings(), CHEAP)
    await here.bootstrap()
    admin = await principal(here, await login(here))
    user = await Tenant(here, admin.org).user()
    session = await login(here, user.name)
    async with EventHub.open(bus, buffer_frames=16) as hub:
        hub.observe(there.heard)
        await eventually(lambda: hub.live)
        await principal(there, session)
        await here.users.edit(admin, user.uuid, UserEdit(active=False))

        async def is_out() -> bool:
            try:
                await principal(there, session)
            except Unauthenticated as error:
                return error.facts["reason"] == "user_inactive"
            return False

        await eventually(is_out)

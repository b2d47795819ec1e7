"""What every start of the control plane makes sure of, whoever started store and broker."""

from __future__ import annotations

from pipeline import topology
from pipeline.bootstrap.control_plane import open_services, prepare
from pipeline.settings import Settings
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.systems.system import KEY
from tests.support.tenants import PASSWORD


async def test_each_organisation_may_ask_and_read_its_events(
    own_mongod: MongodPiece, own_nats: NatsPiece
) -> None:
    where = {"mongo_url": own_mongod.url, "nats_url": own_nats.url}
    given = Settings(encryption_keys=f"k1:{KEY}", signing_key="s" * 40, **where)  # type: ignore[arg-type]
    async with open_services(given, name="test") as services:
        await services.access.users.found("other", "admin", PASSWORD)
        await prepare(services)
        await prepare(services)
        assert await services.bus.asking() == {given.org, "other"}
        for org in (given.org, "other"):
            plan = topology.org_reader(org)
            assert await services.bus.missing((plan.stream,), (plan,)) == []

"""Images by reference over a real store: brought, proved against a registry, found, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.adapters.store.store import Store
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    KeyReused,
    NotFound,
    RegistryUnavailable,
    StaleRevision,
    StoreUnavailable,
)
from pipeline.images.ownership import OwnRegistry
from pipeline.images.service import Images
from pipeline.images.validation import Validation
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets.login_check import SecretLogins
from pipeline.secrets.service import Secrets
from schemas.image import Image, ImageSpec, Needs, Severity
from schemas.states import ContainerStatus, ImageStatus
from tests.support import records as made
from tests.support.engines.node_rig import Clock, Sent
from tests.support.registries.fake_registry import Basic, Bearer
from tests.support.registries.registry_world import HOST, TOKENS, World
from tests.support.secrets import ADA, EVE, HIDDEN, keep, settings

REFERENCE = f"{HOST}/team/model:1"
SPEC = ImageSpec(reference=REFERENCE)


class Yard:
    """The use cases of images over one registry."""

    def __init__(self, store: Store, outbox: Outbox, sent: Sent, world: World) -> None:
        self.clock, self.store, self.sent, self.world = Clock(), store, sent, world
        records = Records(store, outbox, self.clock)
        self.records, self.secrets = records, Secrets(records, settings())
        own = OwnRegistry(store, RegistryTokens(settings().registry, ""))
        self.images = Images(records, self.secrets, own)
        self.validation = Validation(records, world.client, self.secrets, own, timeout_s=60)

    async def submit(self, **spec: Any) -> Image:
        return await self.images.submit(ADA, SPEC.model_copy(update=spec))

    async def validated(self, image: Image, *, last_try: bool = False) -> Image:
        await self.validation.validate(image.org, image.uuid, last_try=last_try)
        return await self.record(image)

    async def record(self, image: Image) -> Image:
        return await self.store.get(Image, image.uuid, org=image.org)


@pytest.fixture
async def yard(store: Store) -> AsyncIterator[Yard]:
    sent = Sent()
    async with Outbox(store, sent) as outbox:
        yield Yard(store, outbox, sent, World())


# --- validation -------------------------------------------------------------------------------


async def test_an_image_is_proved_and_its_digest_is_pinned(yard: Yard) -> None:
    digest = yard.world.registry.push("team/model", "1")
    image = await yard.validated(await yard.submit())
    assert (image.status, image.pinned) == (ImageStatus.READY, f"{HOST}/team/model@{digest}")
    assert yard.sent.kinds(image.uuid) == ["created", "validating", "ready"]
    commands = [m.type for m in yard.sent.messages if m.subject.startswith("yard.cmd.")]
    assert commands == ["modelyard.cmd.image.validate", "modelyard.cmd.image.supersede"]


async def test_validating_again_changes_nothing(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    image = await yard.validated(await yard.submit())
    assert (await yard.validated(image)).revision == image.revision


async def test_workers_that_validate_side_by_side_settle_it_once(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    image = await yard.submit()
    await asyncio.gather(*(yard.validated(image) for _ in range(4)), return_exceptions=True)
    kinds = yard.sent.kinds(image.uuid)
    assert kinds.count("ready") == 1


async def test_an_image_that_is_not_there_fails_with_the_reason(yard: Yard) -> None:
    image = await yard.validated(await yard.submit())
    assert image.status is ImageStatus.FAILED
    assert [finding.code for finding in image.findings] == ["manifest_not_found"]


async def test_a_registry_that_is_away_is_asked_again_and_then_given_up(yard: Yard) -> None:
    image = await yard.submit(reference="gone.example:5999/team/model:1")
    for _ in range(2):
        with pytest.raises(RegistryUnavailable):
            await yard.validated(image)
    waiting = await yard.record(image)
    assert waiting.status is ImageStatus.VALIDATING
    (finding,) = waiting.findings
    until = image.created_at + timedelta(seconds=60)
    assert (finding.code, finding.severity) == ("registry_unavailable", Severity.WARNING)
    assert (
        finding.message
        == waiting.reason
        == (
            "gone.example:5999 cannot be reached: its name cannot be resolved;"
            f" trying again until {until:%H:%M:%S} UTC."
        )
    )
    assert yard.sent.kinds(image.uuid) == ["created", "validating", "retrying"]
    failed = await yard.validated(image, last_try=True)
    assert (failed.status, failed.findings[0].severity) == (ImageStatus.FAILED, Severity.ERROR)
    assert (failed.reason or "").startswith("gone.example:5999 cannot be reached")


async def test_nothing_is_left_of_a_registry_that_was_away_when_it_is_back(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    image = await yard.submit(reference="late.example/team/model:1")
    with pytest.raises(RegistryUnavailable):
        await yard.validated(image)
    yard.world.network.name("late.example", "8.8.8.1")
    ready = await yard.validated(image)
    assert (ready.status, ready.reason) == (ImageStatus.READY, None)
    assert "registry_unavailable" not in [finding.code for finding in ready.findings]


async def test_a_secret_opens_a_private_registry_and_shows_up_nowhere(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    yard.world.registry.auth = Basic("ada", HIDDEN)
    await keep(yard.secrets, server=HOST)
    assert (await yard.validated(await yard.submit())).status is ImageStatus.FAILED
    image = await yard.validated(await yard.submit(secret="mine"))
    assert image.status is ImageStatus.READY
    assert HIDDEN not in "".join(message.model_dump_json() for message in yard.sent.messages)
    assert HIDDEN not in image.model_dump_json()


async def test_a_refused_secret_is_named_as_the_cause(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    yard.world.registry.auth = Basic("ada", "another")
    await keep(yard.secrets, server=HOST)
    await keep(yard.secrets, name="elsewhere", server="registry.test")
    image = await yard.validated(await yard.submit(secret="mine"))
    assert image.status is ImageStatus.FAILED
    assert (image.reason or "").endswith("It was asked with the secret mine.")
    image = await yard.validated(await yard.submit(secret="elsewhere"))
    assert "The secret elsewhere is for registry.test and was not used." in (image.reason or "")
    await SecretLogins(yard.records, yard.secrets, yard.world.client).test(
        ADA.org, (await yard.secrets.get(ADA, "mine")).uuid
    )
    image = await yard.validated(await yard.submit(secret="mine"))
    assert image.reason == f"{HOST} refuses the secret mine: delete it and enter it anew."
    assert [finding.message for finding in image.findings] == [image.reason]


async def test_a_token_service_that_lets_nobody_in_refuses_the_secret(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    yard.world.registry.auth = Bearer(f"https://{TOKENS}/token", yard.world.tokens)
    yard.world.tokens.account = Basic("ada", "another")
    await keep(yard.secrets, server=HOST)
    image = await yard.validated(await yard.submit(secret="mine"))
    assert image.reason == f"{HOST} refuses the secret mine: delete it and enter it anew."


async def test_what_says_nothing_about_the_image_does_not_fail_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any, **kwargs: Any) -> None:
        raise StoreUnavailable("The store does not answer.")

    image = await yard.submit()
    monkeypatch.setattr(yard.world.client, "resolve", away)
    with pytest.raises(StoreUnavailable):
        await yard.validated(image, last_try=True)
    assert (await yard.record(image)).status is ImageStatus.VALIDATING


async def test_what_nobody_foresaw_fails_the_image_in_the_end(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    image = await yard.submit()
    monkeypatch.setattr(yard.world.client, "resolve", broken)
    with pytest.raises(ZeroDivisionError):
        await yard.validated(image)
    assert (await yard.record(image)).status is ImageStatus.VALIDATING
    with pytest.raises(ZeroDivisionError):
        await yard.validated(image, last_try=True)
    failed = await yard.record(image)
    assert failed.status is ImageStatus.FAILED
    assert "could not be checked" in (failed.reason or "")


async def test_needs_that_its_owner_names_replace_only_those_that_the_image_declares(
    yard: Yard,
) -> None:
    declared = {"Env": ["NVIDIA_REQUIRE_CUDA=cuda>=12.4"], "Cmd": ["/serve"]}
    yard.world.registry.push("team/model", "1", config=declared)
    image = await yard.validated(await yard.submit(needs=Needs(gpus=4)))
    assert (image.needs.gpus, image.needs.cuda) == (4, "12.4")
    assert image.gpu_variables == {"NVIDIA_REQUIRE_CUDA": "cuda>=12.4"}


# --- asking for it ----------------------------------------------------------------------------


async def test_needs_that_make_no_sense_are_refused_at_once(yard: Yard) -> None:
    with pytest.raises(InvalidInput) as refused:
        await yard.submit(needs=Needs(gpus=1, cuda="the newest"))
    assert refused.value.facts["field"] == "needs.cuda"


async def test_a_platform_that_is_none_is_refused_at_once(yard: Yard) -> None:
    with pytest.raises(InvalidInput) as refused:
        await yard.submit(platform="x\0")
    assert refused.value.facts["field"] == "platform"


async def test_an_old_record_with_ports_that_cannot_be_is_still_read(yard: Yard) -> None:
    needs = Needs(ports=[0, 70000])
    old = made.image(needs=needs, requested_needs=needs)
    assert (await yard.record(await yard.store.insert(old))).needs == needs


async def test_a_key_answers_its_repeats_and_refuses_another_request(yard: Yard) -> None:
    first = await yard.images.submit(ADA, SPEC, key="k")
    again = await yard.images.submit(ADA, SPEC, key="k")
    assert (again.uuid, again.replayed) == (first.uuid, True)
    with pytest.raises(KeyReused):
        await yard.images.submit(ADA, ImageSpec(reference=f"{HOST}/other"), key="k")
    assert (await yard.images.submit(EVE, SPEC, key="k")).uuid != first.uuid


async def test_a_chosen_name_is_free_again_after_a_delete(yard: Yard) -> None:
    first = await yard.submit(name="mine")
    with pytest.raises(AlreadyExists):
        await yard.submit(name="mine")
    await yard.images.delete(ADA, first.uuid)
    assert (await yard.submit(name="mine")).uuid != first.uuid


async def test_of_many_of_the_same_reference_the_ready_one_is_found(yard: Yard) -> None:
    ready = await yard.store.insert(made.image(reference=REFERENCE, status=ImageStatus.READY))
    for number in range(25):
        at = made.after(number + 1)
        failed = made.image(reference=REFERENCE, status=ImageStatus.FAILED, at=at)
        await yard.store.insert(failed)
    assert (await yard.images.find(ADA, REFERENCE)).uuid == ready.uuid
    with pytest.raises(NotFound):
        await yard.images.find(EVE, REFERENCE)


async def test_an_image_called_like_the_uuid_of_another_is_not_run_in_its_place(yard: Yard) -> None:
    ready = {"status": ImageStatus.READY}
    meant = await yard.store.insert(made.image(**ready))
    for hijacker in ({"name": meant.uuid, "named": True}, {"reference": meant.uuid}):
        await yard.store.insert(made.image(**ready, **hijacker, at=made.after(9)))
    assert (await yard.images.find(ADA, meant.uuid)).uuid == meant.uuid
    await yard.images.delete(ADA, meant.uuid)
    with pytest.raises(NotFound):
        await yard.images.find(ADA, meant.uuid)


async def test_a_chosen_name_goes_before_pushes_of_that_name_whatever_their_age(yard: Yard) -> None:
    chosen = await yard.store.insert(made.image(named=True))
    pushed = [
        await yard.store.insert(made.image(status=ImageStatus.READY, at=made.after(number)))
        for number in (2, 1)
    ]
    assert (await yard.images.find(ADA, "model")).uuid == chosen.uuid
    await yard.images.delete(ADA, chosen.uuid)
    assert (await yard.images.find(ADA, "model")).uuid == pushed[0].uuid


# --- deleting it ------------------------------------------------------------------------------


async def test_an_image_that_changes_meanwhile_is_deleted_all_the_same(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await yard.submit()
    refuse = yard.images._refuse_while_used

    async def changing(current: Image) -> None:
        if current.revision == 1:
            status = ImageStatus.VALIDATING
            await yard.store.change(current, {}, at=yard.clock(), status=status)
        await refuse(current)

    monkeypatch.setattr(yard.images, "_refuse_while_used", changing)
    deleted = await yard.images.delete(ADA, image.uuid)
    assert deleted.status is ImageStatus.DELETED
    assert (await yard.images.delete(ADA, image.uuid)).revision == deleted.revision


async def test_a_delete_of_another_revision_is_refused(yard: Yard) -> None:
    image = await yard.submit()
    with pytest.raises(StaleRevision):
        await yard.images.delete(ADA, image.uuid, revision=7)


async def test_an_image_in_use_is_not_deleted(yard: Yard) -> None:
    image = await yard.submit()
    user = await yard.store.insert(made.container(image=image.uuid, name="user"))
    with pytest.raises(Conflict, match="user"):
        await yard.images.delete(ADA, image.uuid)
    await yard.store.change(user, {}, at=yard.clock(), status=ContainerStatus.DELETED)
    await yard.images.delete(ADA, image.uuid)


async def test_a_deleted_image_is_not_validated_any_more(yard: Yard) -> None:
    yard.world.registry.push("team/model", "1")
    image = await yard.submit()
    await yard.images.delete(ADA, image.uuid)
    assert (await yard.validated(image)).status is ImageStatus.DELETED

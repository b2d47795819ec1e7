"""Addresses, widths, roles and lists of the dashboard, in a real browser over a real system."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.readings import Readings, Source
from pipeline.adapters.store.store import Store
from pipeline.models.service import deployment_id, version_id
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import now
from schemas.container import ContainerSpec, Desired, Resources
from schemas.deployment import AutoscalePolicy, Metric, Owner, ScalingLook, ScalingTarget
from schemas.image import Build, BuildSpec, ContextSource, ImageSource
from schemas.model import ModelVersion
from schemas.states import (
    BuildStatus,
    ContainerStatus,
    DeploymentStatus,
    ImageStatus,
    WebhookDeliveryStatus,
)
from schemas.webhook import Attempt, Webhook, WebhookDelivery
from tests.browser.conftest import ENTER, ESCAPE, LIVE, ORG, Page, Yard, happen, store
from tests.support import records as made
from tests.support.http.browser import Browser

LOADED = "!document.querySelector('#page').textContent.includes('Loading')"
RUNNING = ContainerStatus.RUNNING
TOO_WIDE = "const one = document.documentElement; return one.scrollWidth - one.clientWidth"
PAGES = ("", "containers", "deployments", "models", "images", "uploads", "nodes", "registries")
PAGES += ("secrets", "tokens", "organisations", "users", "events", "dead-letters")
PAGES += ("builds", "webhooks", "audit", "search?q=a")
POORLY_READ = (Path(__file__).parent / "contrast.js").read_text()


async def test_every_page_fits_wide_and_narrow_and_dark_windows(page: Page) -> None:
    browser = page.browser
    await page.visit("nodes")
    await browser.until("document.querySelector('#nodes tbody tr')")
    node = await browser.run("return document.querySelector('#nodes tbody tr').dataset.id")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    light = await browser.run("return getComputedStyle(document.body).backgroundColor")
    nameless = """
        const named = one => one.labels?.length || one.textContent.trim() || one.ariaLabel;
        return [...document.querySelectorAll("button, a, input, select, textarea")]
          .filter(one => one.id !== "confirm-yes" && !named(one)).map(one => one.outerHTML);
        """
    try:
        for width, scheme in ((1280, []), (400, dark)):
            await browser.devtools("Emulation.setEmulatedMedia", features=scheme)
            window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
            await browser.devtools("Emulation.setDeviceMetricsOverride", **window)
            for address in (*PAGES, f"nodes/{node}"):
                await page.visit(address)
                await browser.until(LOADED)
                wide = await browser.run(TOO_WIDE)
                assert (address, wide) == (address, 0)
                assert not await browser.run(nameless)
                assert (address, await browser.run(POORLY_READ)) == (address, [])
        assert await browser.run("return getComputedStyle(document.body).backgroundColor") != light
    finally:
        await browser.devtools("Emulation.clearDeviceMetricsOverride")
        await browser.devtools("Emulation.setEmulatedMedia", features=[])
    assert not await browser.complaints()


async def test_pages_have_addresses_that_the_way_back_and_reloads_keep(page: Page) -> None:
    browser = page.browser
    where = """return [document.title, document.querySelector("#heading").textContent,
        document.querySelector("nav [aria-current]").textContent, document.activeElement.id]"""
    await page.visit("images")
    assert await browser.run(where) == ["Images · Modelyard", "Images", "Images", "heading"]
    await browser.choose("#filter", "FAILED")
    await browser.until("location.hash === '#/images?status=FAILED'")
    await page.visit("nodes")
    await browser.run("history.back()")
    await browser.until("document.querySelector('#filter')?.value === 'FAILED'")
    await browser.run("location.reload()")
    await browser.until(f"{LIVE} && document.querySelector('#filter')?.value === 'FAILED'")
    await page.visit("images/nothing")
    await browser.until("document.querySelector('.note').textContent.includes('no such record')")
    await page.visit("nonsense/%E0")
    assert await browser.text("#heading") == "Not found"


async def test_tiles_count_everything_whatever_a_list_shows(page: Page, yard: Yard) -> None:
    await store(
        yard,
        *(made.container(org=ORG, at=now(), name=f"up-{n}", status=RUNNING) for n in range(3)),
        made.container(org=ORG, at=now(), name="down", status=ContainerStatus.FAILED),
    )
    await page.visit("containers?status=FAILED")
    await page.browser.until("document.querySelector('#containers').innerText.includes('down')")
    assert "up-0" not in await page.browser.text("#containers")
    await page.visit("")
    await page.browser.until("document.querySelector('#containers-number').textContent >= 3")
    assert "failed" in await page.browser.text("#containers-tile")
    assert "down" in await page.browser.text("#troubles")


async def test_a_deployment_has_a_page(page: Page, yard: Yard) -> None:
    # One that is stopped: of others the worker would make replicas.
    down: dict[str, Any] = {"status": DeploymentStatus.SCALED_DOWN, "desired": Desired.STOPPED}
    target = ScalingTarget(metric=Metric.LATENCY, value=200, percentile=95)
    last = ScalingLook(at=now(), replicas=2, why="latency p95 is 300, its target 200")
    down |= {"autoscale": AutoscalePolicy(targets=[target]), "scaling": last}
    down |= {"template": made.template(2), "history": [made.template(1)]}
    image = made.image(org=ORG, at=now(), uuid="image-1", status=ImageStatus.READY)
    await store(yard, image, made.deployment(org=ORG, at=now(), name="answers", **down))
    await page.browser.click(f"{await page.row('deployments', 'answers')} th a")
    await page.browser.until("document.querySelector('#record')?.dataset.status === 'SCALED_DOWN'")
    assert "0 of 2 ready" in await page.browser.text("#record")
    assert "latency p95 200" in await page.browser.text("#record")
    assert "latency p95 is 300" in await page.browser.text("#record")
    await page.browser.until("document.querySelector('#scaling li')")
    assert "latency p95 is unknown, its target 200" in await page.browser.text("#scaling")
    assert "Start" in await page.browser.text("#page .bar")
    await page.press_button("#page .bar", "Edit")
    await page.browser.until("document.querySelector('.ask[open]')")
    await page.browser.run("document.querySelector('.ask [name=min_replicas]').value = '11'")
    await page.browser.click(".ask [type=submit]")
    await page.browser.until("document.querySelector('.ask .problems').textContent")
    await page.browser.run("document.querySelector('.ask [name=min_replicas]').value = '1'")
    await page.browser.click(".ask [type=submit]")
    await page.browser.until("!document.querySelector('.ask')")
    await page.browser.until("document.querySelector('#record').innerText.includes('1 to 10')")
    await page.press_button("#page .bar", "Roll back")
    await page.browser.click(".ask [type=submit]")
    await page.browser.until("document.querySelector('#record').innerText.includes('number 1,')")
    await page.press_button("#page .bar", "Delete")
    assert "answers" in await page.browser.text("#confirm-text")
    await page.browser.press(ESCAPE)


async def test_the_number_of_replicas_is_asked_for(page: Page, yard: Yard) -> None:
    at = now()
    none: dict[str, Any] = {"status": DeploymentStatus.SCALED_DOWN, "replicas": 0}
    scaled = made.deployment(org=ORG, at=at, name="scales", max_replicas=3, **none)
    await store(yard, scaled)
    await page.visit(f"deployments/{scaled.uuid}")
    await page.press_button("#page .bar", "Scale")
    await page.browser.run("document.querySelector('.ask [name=replicas]').value = '2'")
    await page.browser.click(".ask [type=submit]")
    await page.browser.until("document.querySelector('#record').innerText.includes('of 2 ready')")
    assert "scaled" in await page.browser.text("#timeline")
    await yard.system.call(yard.api, "DELETE", f"/deployments/{scaled.uuid}")


async def test_a_webhook_shows_what_it_sent_and_can_be_switched_off(page: Page, yard: Yard) -> None:
    at = now()
    given: dict[str, Any] = {"org": ORG, "created_at": at, "updated_at": at}
    hook = Webhook(
        uuid=new_id(),
        name="<i>ci</i>",
        url="http://hooks.test/",
        after=0,
        **given,
        resources=["image"],
        kinds=["ready"],
    )
    lost = WebhookDelivery(
        uuid=new_id(),
        webhook=hook.uuid,
        about="image/i1",
        kind="ready",
        sequence=1,
        body="{}",
        status=WebhookDeliveryStatus.DEAD,
        tries=9,
        **given,
        attempts=[Attempt(at=at, status=503, error="refused", milliseconds=12)],
    )
    await store(yard, hook, lost)
    await page.browser.click(f"{await page.row('webhooks', hook.name)} th a")
    await page.browser.until("document.querySelector('#deliveries tbody tr')")
    assert "9 attempts" in await page.browser.text("#deliveries")
    await page.press_button("#deliveries", "Send again")
    await page.browser.until("document.querySelector('#deliveries').innerText.includes('PENDING')")
    await page.press_button("#page .bar", "Disable")
    await page.browser.click("#confirm-yes")
    await page.browser.until("document.querySelector('#record').dataset.status === 'DISABLED'")
    await page.visit("audit")
    done = "document.querySelector('#audit').innerText.includes(arguments[0])"
    await page.browser.until(done, hook.name)
    await page.press_button("#audit", hook.name)
    await page.browser.until("document.querySelector('#record')?.dataset.status === 'DISABLED'")
    assert not await page.browser.complaints()


async def test_all_is_searched_by_one_field_from_the_keyboard(page: Page, yard: Yard) -> None:
    image = made.image(org=ORG, at=now(), name="pin", reference="registry.test/Needle:1")
    build = Build(
        uuid=new_id(),
        org=ORG,
        created_at=now(),
        updated_at=now(),
        name="needle",
        node="n1",
        node_name="node-1",
        spec=BuildSpec(name="needle"),
        source=ContextSource.UPLOAD,
        status=BuildStatus.FAILED,
        reason="no such base",
    )
    await store(yard, image, build)
    browser = page.browser
    await browser.press("/")
    for letter in "needle":
        await browser.press(letter)
    found = "[...document.querySelectorAll('#results a')].map(one => one.textContent).join()"
    await browser.until(f"{found} === 'pin,needle'")
    assert await browser.run("return document.activeElement.id") == "search"
    await browser.press(ENTER)
    await browser.until("document.activeElement.closest('#results')")
    await browser.press(ENTER)
    await browser.until(f"location.hash === '#/images/{image.uuid}'")
    await page.visit(f"builds/{build.uuid}")
    await browser.until("document.querySelector('#record').innerText.includes('no such base')")
    assert not await browser.complaints()


async def test_what_follows_a_version_is_not_offered_to_be_changed(page: Page, yard: Yard) -> None:
    buttons = "return document.querySelectorAll(`${arguments[0]} button`).length"
    image = made.image(org=ORG, at=now(), status=ImageStatus.READY)
    model, number, key = "abcdefghij", "1.0.0", "followed"
    named = {"model": model, "model_name": "followed", "version": number, "serving": key}
    times = {"created_at": now(), "updated_at": now()}
    version = ModelVersion(
        uuid=version_id(model, number), org=ORG, image=image.uuid, **named, **times
    )
    follows = made.deployment(
        uuid=deployment_id(ORG, key),
        org=ORG,
        at=now(),
        name="follows",
        owner=Owner(model=model, version=number),
        status=DeploymentStatus.SCALED_DOWN,
        replicas=0,
    )
    await store(yard, image, version, follows)
    row = await page.row("deployments", "follows")
    assert await page.browser.run(buttons, row) == 0
    await page.browser.click(f"{row} th a")
    await page.browser.until("document.querySelector('#record a[href*=models]')")
    assert f"{model} {number}" in await page.browser.text("#record")
    assert await page.browser.run(buttons, "#page .bar") == 0


async def test_a_model_and_its_version_have_pages(page: Page, yard: Yard) -> None:
    wanted = {"name": "classifier", "version": "1.0.0", "description": "<b>tells</b> cats"}
    door = f"{yard.url}api/models"
    assert (await yard.system.http.post(door, json=wanted)).status_code == 201
    await page.browser.click(f"{await page.row('models', 'classifier')} th a")
    await page.browser.until("document.querySelector('#versions tbody a')")
    await page.browser.click("#versions tbody a")
    await page.browser.until("document.querySelector('#heading').textContent === 'Version 1.0.0'")
    assert "1000m of a CPU" in await page.browser.text("#record")
    # Nothing can be done with it before it has an image.
    offered = "return document.querySelectorAll('#page .bar button').length"
    assert await page.browser.run(offered) == 0
    assert await page.browser.text("#record .note") == ""
    assert not await page.browser.complaints()


async def test_an_upload_has_a_page(page: Page, yard: Yard) -> None:
    metadata = f"name {b64encode(b'parcel').decode()}"
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "2097152", "Upload-Metadata": metadata}
    begun = await yard.system.http.post(f"{yard.url}yard/v1/uploads", headers=tus)
    await page.browser.click(f"{await page.row('uploads', 'parcel')} th a")
    await page.browser.until("document.querySelector('#record').innerText.includes('RECEIVING')")
    assert "0 B of 2.0 MiB" in await page.browser.text("#record")
    gone = {"Tus-Resumable": "1.0.0"}
    await yard.system.http.delete(f"{yard.url}{begun.headers['location'][1:]}", headers=gone)
    await page.visit("uploads")
    await page.browser.until("!document.querySelector('#uploads').innerText.includes('parcel')")
    assert not await page.browser.complaints()


async def test_nobody_is_offered_what_he_may_not_do(browser: Browser, yard: Yard) -> None:
    wanted = {"name": "looks", "role": "viewer", "kind": "jwt"}
    issued = await yard.system.http.post(f"{yard.url}yard/v1/tokens", json=wanted)
    await store(yard, made.container(org=ORG, at=now(), name="seen", status=RUNNING))
    page = await Page.open(browser, yard, issued.json()["token"])
    for section in PAGES[1:]:
        await page.visit(section)
        await browser.until(LOADED)
        buttons = (
            "return [...document.querySelectorAll('#page button:not([hidden])')].map(e => e.id)"
        )
        assert await browser.run(buttons) == (["pause"] if section == "events" else [])
    await browser.click(f"{await page.row('containers', 'seen')} th a")
    await browser.until("document.querySelector('#record')?.dataset.status === 'RUNNING'")
    assert await browser.run("return document.querySelectorAll('#page .bar button').length") == 0


async def test_progress_is_one_line_that_goes_on(page: Page, bus: Bus) -> None:
    await page.visit("events")
    await happen(bus, "before")
    for percentage in (1, 2, 3):
        await happen(bus, "pulled", kind="pull.progressed", progress={"percentage": percentage})
    await page.browser.until("document.querySelector('#events li').textContent.includes(' 3 %')")
    assert (await page.event_names())[-2:] == ["before", "pulled"]


async def test_the_images_to_run_are_offered_once_each(page: Page, yard: Yard) -> None:
    twice = [
        made.image(org=ORG, at=now(), name="twice:1", status=ImageStatus.READY) for _ in range(2)
    ]
    await store(yard, *twice)
    await page.visit("containers")
    await page.browser.click("#run")
    await page.browser.until("document.querySelector('#run-container[open]')")
    offered = "return [...document.querySelectorAll('#run-image option')].map(e => e.textContent)"
    names = await page.browser.run(offered)
    assert names.count("twice:1") == 1
    await page.browser.press(ESCAPE)


async def test_what_is_lost_with_an_image_is_said(page: Page, yard: Yard) -> None:
    for source, said in (
        (ImageSource.REFERENCE, "What lies in its registry stays."),
        (ImageSource.ARCHIVE, "removed, here and from the platform's registry."),
        (ImageSource.UPLOAD, "removed, here and from the platform's registry."),
    ):
        image = made.image(org=ORG, at=now(), name=f"lost-{source}", source=source)
        await store(yard, image)
        await page.visit(f"images/{image.uuid}")
        await page.browser.until("document.querySelector('#record')")
        await page.press_button("#page .bar", "Delete")
        assert said in await page.browser.text("#confirm-text")
        await page.browser.press(ESCAPE)


async def test_the_memory_of_a_container_has_its_unit(page: Page, yard: Yard) -> None:
    spec = ContainerSpec(image="model", resources=Resources(memory_bytes=8 * 1024**3))
    container = made.container(org=ORG, at=now(), name="wide", status=RUNNING, spec=spec)
    await store(yard, container)
    await page.visit(f"containers/{container.uuid}")
    await page.browser.until("document.querySelector('#record')?.dataset.status === 'RUNNING'")
    assert "8.0 GiB" in await page.browser.text("#record")


async def test_a_container_that_runs_shows_what_it_uses(page: Page, yard: Yard) -> None:
    container = made.container(
        org=ORG, at=now(), name="busy", status=RUNNING, node="n-busy", node_name="busy-node"
    )
    await store(yard, container)
    used = {"cpus": 0.5, "memory_bytes": 3 * 2**20, "memory_limit_bytes": 2**30}
    used |= {"network_sent_bytes": 2048, "gpu_percent": 12.4}
    async with Store.open(yard.system.settings["MONGO_URL"], yard.system.database) as opened:
        await Readings(opened).publish(Source.CONTAINERS, "n-busy", {container.uuid: used})
    await page.visit(f"containers/{container.uuid}")
    await page.browser.until("document.querySelector('#usage')?.textContent.includes('CPUs')")
    assert await page.browser.text("#usage") == (
        "0.50 CPUs, 3.0 MiB of 1.0 GiB memory, 2.0 KiB sent, GPUs busy 12 %"
    )


async def test_organisations_lead_to_their_users_who_can_be_disabled(
    page: Page, yard: Yard
) -> None:
    asked = {"slug": "research", "name": "<b>Research</b>", "quotas": {"gpus": 8}}
    made = await yard.system.call(yard.api, "POST", "/organisations", json=asked)
    assert made.status_code == 201, made.text
    user = {"name": "ada", "password": "a good password"}
    await yard.system.call(yard.api, "POST", "/users?org=research", json=user)
    row = await page.row("organisations", "<b>Research</b>")
    assert "8" in await page.browser.text(row)
    await page.browser.click(f"{row} a[href*='org=research']")
    await page.browser.until("document.querySelector('#users')?.innerText.includes('ada')")
    row = "#users tbody tr"
    await page.press_button(row, "Disable")
    await page.browser.click("#confirm-yes")
    await page.browser.until("document.querySelector('#users').innerText.includes('disabled')")
    await page.browser.click(f"{row} th a")
    await page.browser.until("document.querySelector('#record')?.innerText.includes('research')")
    await page.press_button("#page .bar", "Enable")
    await page.browser.until("document.querySelector('#record').innerText.includes('yes')")
    assert not await page.browser.complaints()


async def test_secrets_and_tokens_are_listed_without_a_value(page: Page, yard: Yard) -> None:
    data = {"server": "registry.test", "username": "ada", "password": "open sesame"}
    asked = {"name": "mine", "secret_type": "registry", "data": data}
    kept = (await yard.system.call(yard.api, "POST", "/secrets", json=asked)).json()
    await page.visit("secrets")
    await page.browser.until("document.querySelector('#secrets').innerText.includes('mine')")
    await page.visit(f"secrets/{kept['uuid']}")
    await page.browser.until(
        "document.querySelector('#record').innerText.includes('registry.test')"
    )
    assert "sesame" not in await page.browser.text("#record")
    await yard.system.call(yard.api, "POST", "/tokens", json={"name": "ci", "role": "viewer"})
    await page.visit("tokens")
    await page.browser.until("document.querySelector('#tokens').innerText.includes('ci')")
    assert not await page.browser.complaints()

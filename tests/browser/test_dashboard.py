"""The page as a reader uses it, in a real browser over a real system."""

from __future__ import annotations

import itertools
import json
import re

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.records.kernel import now
from schemas.container import ContainerSpec
from schemas.image import Finding, ReferenceParts, Severity
from schemas.states import ContainerStatus, ImageStatus
from tests.browser.conftest import ESCAPE, LIVE, ORG, Page, Yard, happen, store
from tests.support import records as made
from tests.support.http.browser import Browser

HOSTILE = "<img src=x onerror=\"window.pwned='yes'\">"


async def test_a_token_is_asked_for_and_kept_in_the_tab_only(browser: Browser, yard: Yard) -> None:
    await browser.go(yard.url)
    await browser.type("#token", "wrong")
    await browser.click("#gate-form button")
    await browser.until("document.querySelector('#gate-problem').textContent.includes('accepted')")
    assert await browser.run("return document.activeElement.id") == "token"
    await browser.type("#token", yard.token)
    await browser.click("#gate-form button")
    await browser.until(LIVE)
    kept = "return [sessionStorage.length, localStorage.length, document.cookie, location.hash]"
    assert await browser.run(kept) == [1, 0, "", ""]
    await browser.click("#leave")
    await browser.until("!document.querySelector('#gate').hidden && sessionStorage.length === 0")


async def test_a_token_in_the_address_is_taken_out_of_it(browser: Browser, yard: Yard) -> None:
    await browser.go(f"{yard.url}#token={yard.token}")
    await browser.until(LIVE)
    assert await browser.run("return location.href") == yard.url
    assert yard.token not in await browser.run("return document.documentElement.outerHTML")
    assert not await browser.complaints()


async def test_a_page_of_which_a_part_did_not_arrive_comes_back(
    browser: Browser, yard: Yard
) -> None:
    await browser.devtools("Network.enable")
    await browser.devtools("Network.setBlockedURLs", urls=["*/feed.js"])
    try:
        await browser.go(f"{yard.url}#token={yard.token}")
        assert not await browser.run(f"return {LIVE}")
    finally:
        await browser.devtools("Network.setBlockedURLs", urls=[])
        await browser.devtools("Network.disable")
    await browser.until(LIVE)


async def test_a_submitted_image_becomes_ready_without_a_reload(
    page: Page, yard: Yard, counting: str
) -> None:
    browser = page.browser
    await browser.run("window.same = true")
    await page.visit("images")
    await browser.click("#add")
    await browser.type("#add-image [name=reference]", counting)
    await browser.type("#add-image [name=name]", "counter")
    await browser.click("#add-image [type=submit]")
    row = await page.row("images", "counter")
    await page.until_status(row, "READY")
    assert "linux/amd64" in await browser.text(row)
    await page.visit("events")
    await browser.until("document.querySelector('#events').textContent.includes('image.ready')")
    await page.visit("")
    await browser.until("Number(document.querySelector('#images-number').textContent) >= 1")
    assert await browser.run("return window.same")
    assert not await browser.complaints()


async def test_what_the_server_refuses_is_told_beside_the_form(page: Page) -> None:
    browser = page.browser
    await page.visit("images")
    await browser.click("#add")
    await browser.type("#add-image [name=reference]", HOSTILE)
    await browser.type("#add-image [name=name]", HOSTILE)
    await browser.click("#add-image [type=submit]")
    await browser.until("document.querySelector('#add-image [aria-invalid]')")
    assert await browser.run("return document.activeElement.name") == "reference"
    await browser.press(ESCAPE)
    await browser.until("!document.querySelector('dialog[open]')")
    assert await browser.run("return document.activeElement.id") == "add"


async def test_a_container_is_run_followed_across_a_restart_and_stopped(
    page: Page, yard: Yard, counting: str
) -> None:
    await yard.system.image(yard.api, counting)
    browser = page.browser
    await page.press_button(await page.row("images", counting), "Run")
    await browser.type("#run-container [name=name]", "counts")
    await browser.type("#run-container [name=gpus]", "2")
    await browser.click("#run-container [type=submit]")
    await browser.until("document.querySelector('#record')?.dataset.status === 'RUNNING'")
    assert "counts" in await browser.text("#heading")
    await browser.until("document.querySelector('#timeline').textContent.includes('running')")
    steps = "return [...document.querySelectorAll('#timeline .kind')].map(e => e.textContent)"
    kinds = await browser.run(steps)
    assert len(kinds) == len(set(kinds)) >= 4
    assert kinds.index("requested") == 0 < kinds.index("placed") < kinds.index("running")
    told = await browser.text("#timeline")
    assert re.search(r"running RUNNING \+\d+(\.\d)? m?s$", told, re.MULTILINE)
    assert re.search(r"^\d+(\.\d)? m?s from the first event to the last\.", told, re.MULTILINE)
    await page.until_held(2)
    row = await page.row("containers", "counts")
    await page.until_status(row, "RUNNING")
    assert "2 × NVIDIA H100 80GB HBM3 (simulated)" in await browser.text(row)
    assert "127.0.0.1:" in await browser.text(row)
    await page.press_button(row, "Logs")
    await browser.until("document.querySelector('#logs-output').childElementCount > 5")
    await yard.api.restart()
    count = await browser.run("return document.querySelector('#logs-output').childElementCount")
    await browser.until(
        "document.querySelector('#logs-output').childElementCount > arguments[0]", count + 5
    )
    lines = (await browser.text("#logs-output")).split("\n")
    assert lines == [f"line {number} <img src=x>" for number in range(len(lines))]
    await browser.run("history.back()")
    await page.press_button(row, "Stop")
    await browser.click("#confirm-yes")
    await page.until_status(row, "STOPPED")
    await page.until_held(0)
    await page.visit("containers")
    await page.press_button(row, "Delete")
    await browser.click("#confirm-yes")
    await page.until_gone(row)


async def test_the_feed_resumes_across_a_restart_without_gap_or_duplicate(
    page: Page, yard: Yard, bus: Bus
) -> None:
    names = [f"n{number}" for number in range(120)]
    await page.visit("events")
    await happen(bus, *names[:5])
    await page.browser.until("document.querySelectorAll('#events li').length >= 5")
    await yard.api.stop()
    await page.browser.until(f"!({LIVE})")
    await happen(bus, *names[5:100])
    await yard.api.start()
    await page.browser.until(LIVE, timeout_s=30)
    await happen(bus, *names[100:])
    last = "document.querySelector('#events strong')?.textContent === arguments[0]"
    await page.browser.until(last, names[-1])
    assert [name for name in await page.event_names() if name in names] == names


async def test_a_feed_that_cannot_be_resumed_says_so(page: Page, yard: Yard, bus: Bus) -> None:
    await page.visit("events")
    await happen(bus, "before")
    await page.browser.until("document.querySelector('#events li strong')")
    await bus.client.jetstream().delete_stream(topology.EVENTS.name)
    await bus.prepare()
    await happen(bus, "between")
    await page.browser.until("document.querySelector('#events .remark')")
    assert "stream_recreated" in await page.browser.text("#events .remark")
    await page.browser.until(LIVE)
    await happen(bus, "after")
    await page.browser.until("document.querySelector('#events strong').textContent === 'after'")
    assert (await page.event_names())[-2:] == ["between", "after"]


async def test_hostile_texts_stay_text(browser: Browser, yard: Yard, bus: Bus) -> None:
    await store_hostile_records(yard)
    await happen(bus, HOSTILE, reason=HOSTILE, status=HOSTILE)
    subject = topology.dead(topology.command(ORG, "test", "hostile"))
    await bus.publish_raw(subject, HOSTILE.encode(), {"ce-type": HOSTILE})
    page = await Page.open(browser, yard)
    for section in ("images", "containers", "nodes", "dead-letters", "events"):
        await page.visit(section)
        await page.browser.until(
            "document.getElementById(arguments[0]).textContent.includes(arguments[1])",
            section,
            HOSTILE,
        )
    row = await page.row("containers", HOSTILE)
    await page.browser.click(f"{row} th a")
    await page.browser.until("document.querySelector('#record .reason')")
    await page.press_button("#page .bar", "Delete")
    assert HOSTILE in await page.browser.text("#confirm-text")
    found = "return [window.pwned ?? 'no', document.querySelectorAll('[onerror], main img').length]"
    assert await page.browser.run(found) == ["no", 0]
    assert not await page.browser.complaints()


async def store_hostile_records(yard: Yard) -> None:
    """What no door lets in: the page must not rely on the doors."""
    at = now()
    image = made.image(
        org=ORG,
        at=at,
        name=HOSTILE,
        named=True,
        reference=HOSTILE,
        parts=ReferenceParts(registry=HOSTILE, repository=HOSTILE),
        status=ImageStatus.READY,
        findings=[Finding(code="x", severity=Severity.ERROR, message=HOSTILE)],
    )
    container = made.container(
        org=ORG,
        at=at,
        name=HOSTILE,
        image=image.uuid,
        spec=ContainerSpec(image=HOSTILE),
        status=ContainerStatus.FAILED,
        reason=HOSTILE,
        refusals={"node": [HOSTILE]},
    )
    gpu = made.gpu(HOSTILE, model=HOSTILE, healthy=False, fault=HOSTILE)
    node = made.node(HOSTILE, gpu, at=at, labels={"zone": HOSTILE}, address=HOSTILE)
    await store(yard, image, container, node)


async def test_a_dead_letter_can_be_read_requeued_and_dropped(
    browser: Browser, yard: Yard, bus: Bus, counting: str
) -> None:
    order = topology.command(ORG, "image", "create")
    other = topology.command(ORG, "test", "nothing")
    headers = {"ce-specversion": "1.0", "ce-id": "d1", "ce-type": "test", "ce-source": "test"}
    spec = json.dumps({"reference": counting, "name": "from-a-letter"})
    await bus.publish_raw(topology.dead(order), spec.encode(), headers)
    await bus.publish_raw(topology.dead(other), b"{}", headers | {"ce-id": "d2"})
    page = await Page.open(browser, yard)
    row = await page.row("dead-letters", order)
    await browser.click(f"{row} th a")
    await browser.until("document.querySelector('#payload')")
    assert json.loads(await browser.text("#payload")) == json.loads(spec)
    await page.press_button("#page .bar", "Requeue")
    await browser.until("document.querySelector('.note').textContent.includes('no such record')")
    await page.until_status(await page.row("images", "from-a-letter"), "READY")
    row = await page.row("dead-letters", other)
    await page.press_button(row, "Drop")
    await browser.click("#confirm-yes")
    await page.until_gone(row)


async def test_frames_survive_being_cut_anywhere(page: Page) -> None:
    text = ': hi\r\nretry: 5\nid: a-1\n\nevent: x\ndata: one\rdata: two: 2\r\n\r\ndata:{"ü":1}\n\n'
    script = """
    const { FrameParser } = await import("/dashboard/sse.js");
    const [text, cut] = arguments;
    const parser = new FrameParser();
    return [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
    """
    whole = await page.browser.run(script, text, 0)
    assert [(one["event"], one["data"], one["id"], one["retry"]) for one in whole] == [
        ("message", "", "a-1", 5),
        ("x", "one\ntwo: 2", None, None),
        ("message", '{"ü":1}', None, None),
    ]
    for cut in itertools.islice(range(len(text)), 1, None):
        assert await page.browser.run(script, text, cut) == whole, cut

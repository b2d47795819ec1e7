"""Builds on a real engine: from a context to a listed image, and what ends otherwise."""

from __future__ import annotations

import asyncio
import gzip
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.builds import specs
from schemas.image import Build, BuildSpec
from schemas.states import BuildStatus
from tests.support.archives.contexts import BUSYBOX, context, shell
from tests.support.archives.tars import Tar
from tests.support.systems.whole_yard import WholeYard
from tests.support.waiting import eventually

TAR = {"Content-Type": "application/x-tar"}


async def build(yard: WholeYard, content: bytes, *, wait: int = 60, **query: str) -> dict[str, Any]:
    asked = {"name": f"t-{uuid.uuid4().hex[:8]}", "wait": str(wait), **query}
    answer = await yard.http.post(
        "/yard/v1/builds", params=asked, content=content, headers=TAR, timeout=90
    )
    assert answer.status_code in (201, 202), answer.text
    return dict(answer.json())


async def nothing_left(yard: WholeYard, uuid: str) -> None:
    """On the engine, and in the folders of the agent."""

    async def holds() -> bool:
        tags = await yard.engine.tags(specs.REPOSITORY)
        remnants = await yard.engine.remnants(specs.LABEL)
        folder = yard.settings.state / "builds" / yard.agent.uuid / uuid
        left = {each.labels[specs.LABEL] for each in remnants} | set(tags)
        return uuid not in left and not folder.exists()

    await eventually(holds)


async def test_a_context_becomes_a_listed_image_that_runs_and_can_be_built_upon(
    yard: WholeYard,
) -> None:
    steps = ("RUN echo built > /greeting", 'CMD ["sh", "-c", "cat /greeting; sleep 60"]')
    done = await build(yard, gzip.compress(shell(*steps)), name="team/base:1")
    assert done["status"] == "DONE", str(done)
    image = (await yard.http.get(f"/yard/v1/images/{done['image']}")).json()
    assert (image["status"], image["name"]) == ("READY", "team/base:1")
    assert image["image_labels"][specs.LABEL] == done["uuid"]
    output = (await yard.http.get(f"/yard/v1/builds/{done['uuid']}/output")).text
    assert "RUN echo built" in output
    assert output.endswith(done["last_lines"][-50:])
    await nothing_left(yard, done["uuid"])

    upon = await build(yard, context(f"FROM {image['pinned']}\nRUN test -s /greeting\n"))
    assert upon["status"] == "DONE", str(upon)
    container = await yard.run("team/base:1")
    assert container["status"] == "RUNNING", str(container)
    logs = await yard.http.get(f"/yard/v1/containers/{container['uuid']}/logs")
    assert "built" in logs.text
    await yard.http.delete(f"/yard/v1/containers/{container['uuid']}")


async def test_a_build_that_fails_says_why_and_leaves_nothing(yard: WholeYard) -> None:
    failed = await build(yard, shell("RUN echo first > /a", "RUN echo the reason; exit 3"))
    assert (failed["status"], failed["code"]) == ("FAILED", "build_failed")
    assert "returned a non-zero code: 3" in failed["reason"]
    assert "the reason" in failed["last_lines"]
    events = await yard.http.get(
        f"/yard/v1/builds/{failed['uuid']}/output", headers={"Accept": "text/event-stream"}
    )
    assert events.text.startswith("event: output\n")
    assert "event: failed\n" in events.text
    await nothing_left(yard, failed["uuid"])


async def test_a_build_is_cancelled_in_the_middle_of_a_step(yard: WholeYard) -> None:
    begun = await build(yard, shell("RUN echo first > /a", "RUN echo waits; sleep 300"), wait=0)
    path = f"/builds/{begun['uuid']}"
    await yard.until(path, lambda it: "waits" in it["last_lines"])
    answer = await yard.http.delete(f"/yard/v1{path}")
    assert answer.json()["status"] == "FAILED"
    assert answer.json()["code"] == "cancelled"
    await nothing_left(yard, begun["uuid"])
    again = await yard.http.delete(f"/yard/v1{path}")
    assert again.json()["revision"] == answer.json()["revision"]


async def test_what_is_hostile_reaches_no_node(yard: WholeYard) -> None:
    with Tar() as tar:
        tar.add("Dockerfile", b"FROM scratch\nCOPY . /\n")
        tar.link("out", "../../etc/passwd")
    query = {"name": "hostile", "wait": "20"}
    answer = await yard.http.post("/yard/v1/builds", params=query, content=tar.content, headers=TAR)
    assert answer.status_code == 422
    assert answer.json()["code"] == "tar_unsafe_path"
    page = (await yard.http.get("/yard/v1/builds", params={"status": "FAILED"})).json()
    assert page["items"][0]["code"] == "tar_unsafe_path"
    await nothing_left(yard, page["items"][0]["uuid"])


async def test_a_context_that_ends_early_ends_the_build(yard: WholeYard) -> None:
    whole = shell("RUN true")
    answer = await yard.http.post(
        "/yard/v1/builds", params={"name": "cut"}, content=whole[: len(whole) // 2], headers=TAR
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "tar_truncated")
    (cut, *_) = (await yard.http.get("/yard/v1/builds")).json()["items"]
    assert (cut["status"], cut["code"]) == ("FAILED", "tar_truncated")
    await nothing_left(yard, cut["uuid"])


async def test_a_folder_of_the_node_is_built_without_what_is_ignored(
    yard: WholeYard, build_root: Path
) -> None:
    folder = build_root / "model"
    folder.mkdir()
    (folder / "busybox").write_bytes(BUSYBOX)
    (folder / "busybox").chmod(0o755)
    (folder / ".dockerignore").write_text("*.bin\n!kept.bin\noutside\n")
    for name in ("left.bin", "kept.bin"):
        (folder / name).write_text(name)
    (folder / "outside").symlink_to("/etc/passwd")
    steps = "FROM scratch\nCOPY busybox /bin/sh\nCOPY . /ctx\nARG A\n"
    steps += 'RUN test -e /ctx/kept.bin && test ! -e /ctx/left.bin && test "$A" = b\n'
    (folder / "Dockerfile").write_text(steps)
    asked = {"name": "of-folder", "context_path": str(folder), "build_args": {"A": "b"}}
    wait = {"wait": 60}
    answer = await yard.http.post("/yard/v1/builds", json=asked, params=wait, timeout=90)
    assert answer.json()["status"] == "DONE", answer.text

    (folder / ".dockerignore").unlink()
    refused = await yard.http.post("/yard/v1/builds", json=asked, params=wait, timeout=90)
    assert refused.json()["status"] == "FAILED"
    assert "outside leads out" in refused.json()["reason"]
    (build_root / "door").symlink_to("/etc")
    for path in ("/etc", str(build_root / "door"), f"{build_root}/../x"):
        other = {**asked, "context_path": path}
        refused = await yard.http.post("/yard/v1/builds", json=other, params=wait, timeout=90)
        assert refused.json()["code"] == "invalid_input", refused.text


async def test_a_repeat_gets_the_build_of_the_first_request(yard: WholeYard) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex, **TAR}
    ask = {"params": {"name": "once", "wait": "60"}, "content": shell(), "headers": key}
    first, second = await asyncio.gather(
        *(yard.http.post("/yard/v1/builds", timeout=90, **ask) for _ in range(2))  # type: ignore[arg-type]
    )
    assert first.json()["uuid"] == second.json()["uuid"]
    third = await yard.http.post("/yard/v1/builds", timeout=90, **ask)  # type: ignore[arg-type]
    assert third.headers["Idempotency-Replayed"] == "true"
    assert third.json()["status"] == "DONE", third.text


async def test_an_agent_that_comes_back_ends_what_it_was_building(yard: WholeYard) -> None:
    begun = await build(yard, shell("RUN echo first > /a", "RUN echo waits; sleep 300"), wait=0)
    await yard.until(f"/builds/{begun['uuid']}", lambda it: "waits" in it["last_lines"])
    await yard.agent.building.close()
    ended = await yard.until(f"/builds/{begun['uuid']}", lambda it: it["status"] == "FAILED")
    assert ended["code"] == "interrupted"
    await nothing_left(yard, begun["uuid"])


@pytest.mark.parametrize(
    ("status", "is_kept"), [("DONE", False), ("FAILED", False), ("QUEUED", True)]
)
async def test_what_has_been_over_for_long_is_forgotten(
    yard: WholeYard, status: str, is_kept: bool
) -> None:
    spec = BuildSpec(name="old", context_path="/old")
    records, publishing = yard.services.records, yard.services.builds.publishing
    for days in (29, 31):
        at = records.clock() - timedelta(days=days)
        times = {"created_at": at, "updated_at": at, "uuid": f"{status}-{days}"}
        old = Build(
            **{**records.initial(yard.org, f"{status}-{days}"), **times},
            status=BuildStatus(status),
            name=spec.name,
            spec=spec,
            source=spec.source,
            node=(await yard.http.get("/yard/v1/nodes")).json()["items"][0]["uuid"],
            node_name="one",
        )
        await records.store.insert(old)
    await publishing.sweep()
    for days, kept in ((29, True), (31, is_kept)):
        found = await yard.http.get(f"/yard/v1/builds/{status}-{days}")
        assert (found.status_code == 200) == kept, days

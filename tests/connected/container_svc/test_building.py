"""Images that are built through the door: from folders and what is sent, and what is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from tests.support.archives.contexts import context, folder, shell
from tests.support.archives.tars import Tar
from tests.support.registries.registry_door import client
from tests.support.systems.service_yard import Svc
from tests.support.tenants import an_organisation

TAR = {"Content-Type": "application/x-tar"}
EVENTS = {"Accept": "text/event-stream"}


async def build(svc: Svc, **asked: Any) -> httpx.Response:
    return await svc.call("PUT", "/image", json={"name": svc.name, **asked})


async def send(svc: Svc, content: bytes, **query: str) -> httpx.Response:
    asked = {"name": svc.name, **query}
    return await svc.call("PUT", "/image/context", params=asked, content=content, headers=TAR)


async def told(svc: Svc, content: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events that a build sends."""
    answer = await svc.http.put(
        "/container-svc/image/context",
        params={"name": svc.name},
        content=content,
        headers=TAR | EVENTS,
        timeout=90,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [frame for frame in answer.text.split("\n\n") if frame.startswith("event: ")]
    pairs = (frame.removeprefix("event: ").split("\ndata: ", 1) for frame in frames)
    return [(name, json.loads(data)) for name, data in pairs]


async def test_a_folder_becomes_an_image_that_runs_under_its_name(svc: Svc) -> None:
    at = folder(svc.build_root() / svc.name, 'CMD ["sh", "-c", "while :; do sleep 1; done"]')
    (at / "busybox.x").write_bytes(b"")
    answer = await build(svc, contextPath=str(at), dockerfilePath="Dockerfile", unknown=1)
    assert (answer.status_code, answer.json()) == (200, {}), answer.text
    for image in (svc.name, f"{svc.name}:latest"):
        await svc.run(image=image)
        assert (await svc.one())["status"] == "running"
    assert await svc.ok("GET", f"/image/{svc.name}/pullable") == {"pullable": True}


async def test_a_context_that_is_sent_is_built_with_the_dockerfile_that_is_named(svc: Svc) -> None:
    content = shell("RUN echo built", path="deploy/Containerfile")
    answer = await send(svc, gzip.compress(content), dockerfilePath="deploy/Containerfile")
    assert (answer.status_code, answer.json()) == (200, {}), answer.text
    missing = await send(svc, content)
    assert (missing.status_code, missing.json()["code"]) == (422, "build_failed")
    (node,) = (await svc.yard.http.get("/yard/v1/nodes")).json()["items"]
    there = await send(svc, content, nodeId=node["name"], dockerfilePath="deploy/Containerfile")
    assert there.status_code == 200, there.text


async def test_what_a_build_writes_is_sent_as_it_comes(svc: Svc) -> None:
    *output, (last, done) = await told(svc, shell("RUN echo written"))
    assert {name for name, _ in output} == {"output"}
    assert "written\n" in "".join(data["text"] for _, data in output)
    assert (last, done["name"]) == ("done", svc.name)
    operation = await svc.ok("GET", f"/operations/{done['operationId']}")
    assert operation == {
        "id": done["operationId"],
        "kind": "build",
        "status": "succeeded",
        "result": {"image": svc.name},
    }
    other = await client(svc.yard.app, await an_organisation(svc.yard.services))
    async with other as http:
        theirs = Svc(svc.yard, http, svc.image, svc.healthy_image, name=svc.name)
        hidden = await theirs.call("GET", f"/operations/{done['operationId']}")
        assert hidden.status_code == 404


async def test_a_build_that_fails_tells_its_last_lines(svc: Svc) -> None:
    content = shell("RUN echo the reason; exit 3")
    answer = await send(svc, content)
    assert (answer.status_code, answer.json()["code"]) == (422, "build_failed")
    assert "returned a non-zero code: 3" in answer.json()["error"]
    assert "the reason\n" in answer.json()["error"]
    *_, (last, failed) = await told(svc, content)
    assert (last, failed["code"]) == ("failed", "build_failed")
    operation = await svc.ok("GET", f"/operations/{failed['operationId']}")
    assert (operation["status"], operation["error"]) == ("failed", failed["error"])
    unknown = await send(svc, context("FROM 127.0.0.1:1/no/such:1"))
    assert unknown.status_code == 422, unknown.text


async def test_a_build_that_takes_long_is_an_operation(
    svc: Svc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svc.yard.services.settings, "wait_max_s", 0.5)
    answer = await send(svc, shell("RUN echo waits; sleep 300"))
    assert answer.status_code == 504, answer.text
    id = answer.json()["operationId"]
    assert (await svc.ok("GET", f"/operations/{id}"))["status"] == "running"
    path = f"/yard/v1/builds/{id.removeprefix('build-')}"
    assert (await svc.yard.http.delete(path)).status_code == 200
    ended = await svc.ok("GET", f"/operations/{id}")
    assert ended["status"] == "failed"
    assert "cancelled" in ended["error"]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("name", {"name": "", "contextPath": "/a"}),
        ("name", {"name": " a", "contextPath": "/a"}),
        ("name", {"name": 1, "contextPath": "/a"}),
        ("contextPath", {}),
        ("contextPath", {"contextPath": "relative"}),
        ("contextPath", {"contextPath": ["/a"]}),
        ("gitUrl", {"contextPath": "/a", "gitUrl": "https://a.example/b.git"}),
        ("gitUrl", {"gitUrl": "http://a.example/b.git"}),
        ("gitUrl", {"gitUrl": "-u"}),
        ("gitUrl", {"gitUrl": "https://user:pass@a.example/b.git"}),
        ("gitRef", {"gitUrl": "https://a.example/b.git", "gitRef": "-x"}),
        ("gitRef", {"contextPath": "/a", "gitRef": "main"}),
        ("leaves", {"contextPath": "/a", "dockerfilePath": "../Dockerfile"}),
        ("dockerfile", {"contextPath": "/a", "dockerfilePath": "-f"}),
    ],
)
async def test_a_bad_field_is_400(svc: Svc, field: str, asked: dict[str, Any]) -> None:
    answer = await build(svc, **asked)
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["error"]


async def test_a_folder_elsewhere_is_400(svc: Svc) -> None:
    root = svc.build_root()
    (root / f"{svc.name}-door").symlink_to("/etc")
    outside = ("/etc", f"{root}/../x", str(root / f"{svc.name}-door"), str(root / "missing"))
    answers = await asyncio.gather(*(build(svc, contextPath=path) for path in outside))
    for path, answer in zip(outside, answers, strict=True):
        assert answer.status_code == 400, (path, answer.text)
    at = folder(root / svc.name, "COPY . /all")
    (at / "passwd").symlink_to("/etc/passwd")
    linked = await build(svc, contextPath=str(at))
    assert linked.status_code == 422, linked.text
    assert "passwd leads out" in linked.json()["error"]
    (at / "D").symlink_to("/etc/hostname")
    assert (await build(svc, contextPath=str(at), dockerfilePath="D")).status_code == 400


async def test_what_is_hostile_or_no_context_is_refused(svc: Svc) -> None:
    with Tar() as tar:
        tar.add("Dockerfile", b"FROM scratch\n")
        tar.add("../outside", b"")
    hostile = await send(svc, tar.content)
    assert (hostile.status_code, hostile.json()["code"]) == (422, "tar_unsafe_path")
    large = context("FROM scratch\n", zeros=bytes(17 * 2**20))
    assert (await send(svc, large)).status_code == 413
    assert (await send(svc, gzip.compress(large))).json()["code"] == "archive_bomb"
    body = {"params": {"name": svc.name}, "content": b"x", "headers": {"Content-Type": "text/x"}}
    assert (await svc.call("PUT", "/image/context", **body)).status_code == 415
    assert (await svc.call("PUT", "/image/context", content=b"", headers=TAR)).status_code == 400
    assert (await send(svc, b"no TAR at all")).status_code == 422


async def test_nodes_and_addresses_that_cannot_be_had_are_told(svc: Svc) -> None:
    assert (await build(svc, contextPath="/a", nodeId="nowhere")).status_code == 404
    assert (await send(svc, shell(), nodeId="nowhere")).status_code == 404
    refused = await build(svc, gitUrl="https://169.254.169.254/a.git")
    assert (refused.status_code, refused.json()["code"]) == (422, "address_refused")

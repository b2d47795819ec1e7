"""Who may build and see builds, and where the secrets of a build never turn up."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import httpx

from pipeline.adapters.bus.client import Bus
from pipeline.builds import specs
from schemas.access import Role
from tests.connected.builds.test_builds import TAR, build, nothing_left
from tests.support.archives.contexts import context, shell
from tests.support.archives.images import busybox_image
from tests.support.events import stored_events
from tests.support.registries.gated_registry import PASSWORD, USER, GatedRegistry
from tests.support.registries.registry_door import client
from tests.support.systems.whole_yard import WholeYard
from tests.support.tenants import an_organisation


async def test_others_neither_see_nor_touch_a_build_or_build_upon_it(yard: WholeYard) -> None:
    ours = await build(yard, shell())
    assert ours["status"] == "DONE", str(ours)
    image = (await yard.http.get(f"/yard/v1/images/{ours['image']}")).json()
    async with await client(yard.app, await an_organisation(yard.services)) as http:
        path = f"/yard/v1/builds/{ours['uuid']}"
        for method, way in (("GET", ""), ("GET", "/output"), ("DELETE", "")):
            assert (await http.request(method, path + way)).status_code == 404
        assert (await http.get("/yard/v1/builds")).json()["items"] == []
        asked = {"params": {"name": "upon", "wait": 60}, "headers": TAR, "timeout": 90}
        upon = context(f"FROM {image['pinned']}\n")
        theirs = (await http.post("/yard/v1/builds", content=upon, **asked)).json()
        assert (theirs["status"], theirs["code"]) == ("FAILED", "build_failed"), str(theirs)
        assert image["pinned"].partition("@")[0] in theirs["reason"]
    again = (await yard.http.get(path)).json()
    assert again["revision"] == ours["revision"]


async def test_a_viewer_looks_at_builds_and_a_service_account_does_not(yard: WholeYard) -> None:
    path = f"/yard/v1/builds/{(await build(yard, shell()))['uuid']}"
    for role, looks in ((Role.VIEWER, 200), (Role.SERVICE, 403)):
        async with await client(yard.app, yard.org, role) as http:
            begun = await http.post("/yard/v1/builds", content=shell(), headers=TAR)
            assert begun.status_code == 403, role
            assert (await http.delete(path)).status_code == 403, role
            assert (await http.get(path)).status_code == looks, role


async def test_the_secret_of_a_base_image_is_in_no_layer_output_event_or_answer(
    yard: WholeYard,
) -> None:
    steps = (
        f"RUN echo {PASSWORD} > /dev/null",
        "RUN env; cat /proc/1/environ; cat /root/.docker/config.json; true",
    )
    async with GatedRegistry.open(busybox_image(), login=True) as registry:
        registry.gate.set()
        server = registry.reference.partition("/")[0]
        asked = "\n".join([f"FROM {registry.reference}", steps[1]])
        refused = await build(yard, context(asked))
        assert (refused["status"], refused["code"]) == ("FAILED", "build_failed"), str(refused)
        data = {"server": server, "username": USER, "password": PASSWORD}
        secret = {"secret_type": "registry", "name": "base", "data": data}
        made = await yard.http.post("/accounts/secrets/", json=secret)
        assert made.status_code == 201, made.text
        done = await build(yard, context(asked), secret="base")
        assert done["status"] == "DONE", str(done)
        # What a step says of it by itself is hidden as well.
        told = await build(yard, context(f"FROM {registry.reference}\n{steps[0]}"), secret="base")
        assert "RUN echo ***" in told["last_lines"], str(told)
        output = await yard.http.get(f"/yard/v1/builds/{done['uuid']}/output")
    assert "RUN env" in output.text
    for text in (output.text, str(done), str(refused)):
        assert PASSWORD not in text
    async with Bus.open(yard.settings.nats_url, name="reader") as bus:
        events = b"".join([stored.data async for stored in stored_events(bus, None)])
    assert done["uuid"].encode() in events or b"RUN env" in events
    assert PASSWORD.encode() not in events
    assert PASSWORD.encode() not in await whole(yard, done["image"])
    await nothing_left(yard, done["uuid"])


async def whole(yard: WholeYard, uuid: str) -> bytes:
    """All that an image has in its registry: manifest, configuration, opened layers."""
    image = (await yard.http.get(f"/yard/v1/images/{uuid}")).json()
    registry, _, rest = image["pinned"].partition("/")
    repository, _, digest = rest.partition("@")
    found = b""
    async with httpx.AsyncClient(base_url=f"http://{registry}/v2/{repository}") as http:
        accept = "application/vnd.docker.distribution.manifest.v2+json"
        accept += ", application/vnd.oci.image.manifest.v1+json"
        answer = await http.get(f"/manifests/{digest}", headers={"Accept": accept})
        manifest: dict[str, Any] = answer.json()
        found += answer.content
        found += (await http.get(f"/blobs/{manifest['config']['digest']}")).content
        for layer in manifest["layers"]:
            blob = (await http.get(f"/blobs/{layer['digest']}", timeout=60)).content
            with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isreg() else None
                    found += entry.name.encode() + (content.read() if content else b"")
    assert specs.LABEL.encode() in found
    return found

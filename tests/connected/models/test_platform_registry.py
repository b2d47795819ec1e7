"""The platform's own registry, by every name and way: it opens to its owner's launches alone."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from pipeline.adapters.http.resolving import is_this_machine
from pipeline.bootstrap.control_plane import Services
from pipeline.oci import references
from pipeline.oci.manifests import OCI_MANIFEST
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.models.models_door import Door
from tests.support.registries.platform_registry import proof
from tests.support.systems.system import System

SPELLINGS = (
    *("127.0.0.1", "127.1", "0x7f.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"),
    *("localhost", "LOCALHOST.", socket.gethostname()),
)
KEPT = "another organisation"


@pytest.fixture
def registry(models_system: System) -> str:
    return models_system.settings["REGISTRY"]


@pytest.fixture
async def everywhere(registry: str) -> AsyncIterator[list[str]]:
    """Names of this machine at which the registry answers, as if it listened on all addresses."""
    port = int(registry.rpartition(":")[2])
    async with AsyncExitStack() as stack:
        for address in ("::1", *_addresses()):
            forward = await asyncio.start_server(_forward(port), address, port)
            await stack.enter_async_context(forward)
        found = [f"[{one}]" if ":" in one else one for one in _addresses()]
        yield [f"{host}:{port}" for host in (*SPELLINGS, *found)]


@pytest.fixture
async def hidden(door: Door) -> dict[str, Any]:
    """An image of the installation's own organisation, in the platform's registry."""
    return await pushed(door, "team/hidden:1")


async def pushed(door: Door, name: str, **image: Any) -> dict[str, Any]:
    archive = docker_archive(busybox_image(**image), name)
    answer = await door.http.post(
        "/yard/v1/images",
        params={"name": name},
        content=archive,
        headers={"Content-Type": "application/x-tar"},
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def submitted(door: Door, reference: str) -> httpx.Response:
    body = {"reference": reference}
    return await door.http.post("/yard/v1/images", json=body, params={"wait": 20}, timeout=30)


def manifest_of(image: dict[str, Any]) -> bytes:
    parts = references.parse(image["reference"])
    where = f"http://{parts.registry}/v2/{parts.repository}/manifests/{image['digest']}"
    headers = proof(parts.repository) | {"Accept": f"{OCI_MANIFEST}, */*"}
    return httpx.get(where, headers=headers).raise_for_status().content


async def test_no_name_of_the_host_shows_an_image_to_another_organisation(
    stranger: Door, door: Door, hidden: dict[str, Any], everywhere: list[str]
) -> None:
    path = hidden["reference"].partition("/")[2]
    asked = [f"{host}/{path}" for host in everywhere]
    asked += [f"{host}/{path.partition(':')[0]}@{hidden['digest']}" for host in everywhere]
    answers = await asyncio.gather(*(submitted(stranger, reference) for reference in asked))
    for answer in answers:
        assert answer.status_code == 422 or answer.json()["status"] == "FAILED", answer.text
    # The name of the host is no less than the address itself.
    named = [one for one in asked if one.startswith(socket.gethostname())]
    for answer in (each for one, each in zip(asked, answers, strict=True) if one in named):
        assert KEPT in answer.json()["reason"]


async def test_its_owner_may_call_it_by_the_name_of_the_host(
    door: Door, hidden: dict[str, Any], registry: str
) -> None:
    port = registry.rpartition(":")[2]
    path = hidden["reference"].partition("/")[2]
    image = (await submitted(door, f"{socket.gethostname()}:{port}/{path}")).json()
    assert (image["status"], image["pinned"]) == ("READY", hidden["pinned"])


async def test_a_way_that_no_address_tells_of_is_shut_all_the_same(
    stranger: Door, hidden: dict[str, Any], registry: str
) -> None:
    """A forwarded port, and a registry that redirects: to manifests, or to blobs alone."""
    path = hidden["reference"].partition("/")[2]
    own = int(registry.rpartition(":")[2])
    ways = (_forward(own), _redirect(registry), _redirect(registry, manifest_of(hidden)))
    async with AsyncExitStack() as stack:
        ports = []
        for answering in ways:
            server = await asyncio.start_server(answering, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            ports.append(server.sockets[0].getsockname()[1])
        for port in ports:
            image = (await submitted(stranger, f"127.0.0.1:{port}/{path}")).json()
            assert image["status"] == "FAILED"


async def test_the_directory_lists_nothing_of_it(
    stranger: Door, door: Door, hidden: dict[str, Any], everywhere: list[str], registry: str
) -> None:
    repository = references.parse(hidden["reference"]).repository
    port = registry.rpartition(":")[2]
    for one in (stranger, door):
        for host in (registry, f"localhost:{port}", f"{socket.gethostname()}:{port}"):
            entry = {"container_registry_public_url": f"http://{host}"}
            made = await one.http.post("/container_registry", json=entry)
            at = f"/yard/v1/registries/{made.json()['data']['id']}/repositories"
            for where in (at, f"{at}/{repository}/tags"):
                answer = await one.http.get(where)
                assert answer.status_code >= 400, answer.text
                assert "hidden" not in answer.text.replace(where, "")


async def test_people_neither_pull_nor_push_nor_mount(
    door: Door, hidden: dict[str, Any], registry: str, api_key: str
) -> None:
    parts = references.parse(hidden["reference"])
    at = f"/v2/{parts.repository}"
    blob = json.loads(manifest_of(hidden))["config"]["digest"]
    async with httpx.AsyncClient(base_url=f"http://{registry}", timeout=30) as http:
        mount = f"/v2/images/other/x/blobs/uploads/?mount={blob}&from={parts.repository}"
        asked = [("GET", "/v2/"), ("GET", "/v2/_catalog"), ("GET", f"{at}/tags/list")]
        asked += [("GET", f"{at}/manifests/{parts.tag}"), ("POST", f"{at}/blobs/uploads/")]
        asked += [("POST", mount), ("DELETE", f"{at}/manifests/{hidden['digest']}")]
        for method, path in asked:
            for proof_of in ({}, {"Authorization": f"Bearer {api_key}"}):
                answer = await http.request(method, path, headers=proof_of)
                assert answer.status_code == 401, (method, path)
                assert "Bearer realm=" in answer.headers["WWW-Authenticate"]
        # Who may write in one repository reads in no other.
        answer = await http.post(mount, headers=proof("images/other/x"))
        assert answer.status_code == 401
    scope = {"service": "modelyard-registry", "scope": f"repository:{parts.repository}:pull"}
    for auth in (None, ("admin", "a-long-admin-password"), ("me", api_key), ("\x80", "é")):
        refused = await door.http.get("/token", params=scope, auth=auth, headers={})
        assert refused.status_code == 401, refused.text
    # Clients that try OAuth first go on with GET after a 405.
    assert (await door.http.post("/token", data=scope)).status_code == 405


async def test_the_key_of_a_launch_opens_its_image_while_it_pulls(
    models_system: System, door: Door, inside: Services, registry: str
) -> None:
    """Also of an image whose name has gone to a newer one."""
    older = await pushed(door, "team/again:1", labels={"number": "1"})
    await pushed(door, "team/again:1", labels={"number": "2"})
    run = {"image": older["uuid"]}
    answer = await door.http.post("/yard/v1/containers", json=run, params={"wait": 30})
    container = answer.json()
    assert container["status"] == "RUNNING", answer.text
    assert "pull_key" not in container
    # What it pulled with is worth nothing any more.
    late = await door.http.get("/token", auth=(container["uuid"], "anything"))
    assert late.status_code == 401
    await door.http.delete(f"/yard/v1/containers/{container['uuid']}", params={"wait": 30})


def _addresses() -> list[str]:
    """Of this machine besides loopback: those that may be contacted at all."""
    found = set()
    for family, far in ((socket.AF_INET, "10.255.255.255"), (socket.AF_INET6, "fd00::ffff")):
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            try:
                asked.connect((far, 9))
            except OSError:
                continue
            found.add(asked.getsockname()[0])
    assert all(map(is_this_machine, found))
    return [one for one in found if not ipaddress.ip_address(one).is_loopback]


def _forward(port: int) -> Any:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, on = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, on), _copy(there, writer))

    return forward


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            sink.write(piece)
    except ConnectionError:
        pass
    finally:
        sink.close()


def _redirect(registry: str, manifest: bytes = b"") -> Any:
    """A registry that sends all requests on to `registry`, or those for blobs alone."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.read(65536)).split(b"\r\n")[0].split(b" ")
        if head[-1] != b"HTTP/1.1":
            answer, body = "400 Bad Request", b""
        elif manifest and b"/manifests/" in head[1]:
            answer, body = f"200 OK\r\nContent-Type: {OCI_MANIFEST}", manifest
        else:
            where = f"http://{registry}{head[1].decode()}"
            answer, body = f"307 Temporary Redirect\r\nLocation: {where}", b""
        end = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(f"HTTP/1.1 {answer}\r\n{end}".encode() + body)
        writer.close()

    return redirect

from __future__ import annotations

from httpx import AsyncClient

from schemas.node import Lease
from tests.support.http.front import Front
from tests.support.records import gpu

PATH = "/yard/v1/nodes"


async def test_a_node_shows_what_is_in_use_but_not_by_whom(fake: Front, http: AsyncClient) -> None:
    node = fake.node(
        held={"GPU-1": "container-of-somebody"},
        leases={"container-of-somebody": Lease(container="container-of-somebody", fence=1)},
    )
    for answer in (await http.get(f"{PATH}/{node.uuid}"), await http.get(PATH)):
        assert "container-of-somebody" not in answer.text
        shown = answer.json().get("items", [answer.json()])[0]
        assert shown["held"] == ["GPU-1"]
        assert not shown.keys() & {"leases", "outbox", "replayed"}


async def test_a_node_shows_its_inventory(fake: Front, http: AsyncClient) -> None:
    node = fake.node(inventory=fake.node().inventory.model_copy(update={"gpus": [gpu("GPU-1")]}))
    shown = (await http.get(f"{PATH}/{node.uuid}")).json()
    assert shown["inventory"]["gpus"][0]["uuid"] == "GPU-1"
    assert shown["inventory"]["platform"] == {
        "os": "linux",
        "architecture": "amd64",
        "variant": None,
    }


async def test_nodes_can_be_narrowed_by_name(fake: Front, http: AsyncClient) -> None:
    fake.node(name="a")
    fake.node(name="b")
    found = (await http.get(PATH, params={"name": "a"})).json()["items"]
    assert [node["name"] for node in found] == ["a"]


async def test_an_unknown_node_is_404(http: AsyncClient) -> None:
    assert (await http.get(f"{PATH}/x")).status_code == 404

"""The tables that images refer to, through HTTP."""

from __future__ import annotations

import asyncio
import json
import uuid
from importlib import resources

from pipeline.catalog.fields import NO_NUMBER, NULL, REQUIRED
from tests.support.registries.catalog_door import CatalogDoor, image


def named() -> str:
    return f"x{uuid.uuid4().hex[:12]}"


async def test_the_reference_data_are_there_in_their_order(door: CatalogDoor) -> None:
    content = resources.files("pipeline.catalog").joinpath("reference_data.json").read_text()
    for table, rows in json.loads(content).items():
        answer = await door.call("GET", f"/{table}/{len(rows)}")
        assert {"pk": len(rows), **rows[-1]}.items() <= answer.json().items()
        listed = (await door.call("POST", f"/{table}/list")).json()[: len(rows)]
        assert [each["pk"] for each in listed] == list(range(1, len(rows) + 1))


async def test_loading_them_again_leaves_what_was_changed_or_deleted(door: CatalogDoor) -> None:
    edited = (await door.call("PATCH", "/job-types/30", json={"pkg": "mine"})).status_code
    gone = (await door.call("DELETE", "/job-types/27")).status_code
    changed = (await door.call("PATCH", "/job-types/26", json={"pkg": "mine"})).json()
    await door.services.catalog.rows.load()
    assert (edited, gone, changed["pkg"]) == (404, 204, "mine")
    assert (await door.call("GET", "/job-types/26")).json() == changed
    assert (await door.call("GET", "/job-types/27")).status_code == 404


async def test_a_row_is_made_changed_and_removed_like_an_image(door: CatalogDoor) -> None:
    made = await door.call(
        "POST", "/frameworks/create/", json={"name": named(), "version": 2.5, "pk": 1}
    )
    row = made.json()
    assert (made.status_code, row["version"]) == (201, "2.5")
    path = f"/frameworks/{row['pk']}"
    assert made.headers["location"] == f"/v1{path}"
    assert (await door.call("PUT", path, json=row)).headers["etag"] == made.headers["etag"]
    headers = {"If-Match": made.headers["etag"]}
    changed = await door.call("PATCH", path, json={"version": "3"}, headers=headers)
    assert changed.json() == row | {"version": "3"}
    assert (await door.call("DELETE", path, headers=headers)).status_code == 412
    again = await door.call("POST", "/frameworks/create", json=changed.json())
    assert (again.status_code, list(again.json())) == (400, ["non_field_errors"])
    assert (await door.call("DELETE", path)).status_code == 204
    assert (await door.call("GET", path)).status_code == 404
    newer = await door.call("POST", "/frameworks/create", json=changed.json())
    assert newer.json()["pk"] > row["pk"]


async def test_wrong_fields_of_rows_are_told_together(door: CatalogDoor) -> None:
    told = {"version": [REQUIRED], "full_version": [REQUIRED], "min_driver_version": [REQUIRED]}
    assert await door.refusal("POST", "/cuda/create", json={}) == (400, told)
    body = {"version": "x", "full_version": None, "min_driver_version": "1" * 17}
    status, told = await door.refusal("POST", "/cuda/create", json=body)
    assert (status, told["version"], told["full_version"]) == (400, [NO_NUMBER], [NULL])
    taken = {"version": 11.8, "full_version": "y", "min_driver_version": "1"}
    status, told = await door.refusal("POST", "/cuda/create", json=taken)
    assert (status, list(told)) == (400, ["version"])
    no_url = {"name": named(), "url": "ftp://a"}
    status, told = await door.refusal("POST", "/licences/create", json=no_url)
    assert (status, list(told)) == (400, ["url"])


async def test_ranges_of_hardware_are_not_empty_and_do_not_overlap(door: CatalogDoor) -> None:
    def hardware(low: float, high: float) -> dict[str, object]:
        limits = {"min_compute_capability": low, "max_compute_capability": high}
        return {"generation": named(), **limits}

    for low, high in ((5, 5), (6, 5), (7.9, 8.1), (1, 99)):
        status, told = await door.refusal("POST", "/hardware/create", json=hardware(low, high))
        assert (status, list(told)) == (400, ["non_field_errors"])
    answers = await asyncio.gather(
        *(door.call("POST", "/hardware/create", json=hardware(10, 11)) for _ in range(6))
    )
    assert sorted(each.status_code for each in answers) == [201] + [400] * 5
    [made] = [each.json() for each in answers if each.status_code == 201]
    find = "/hardware/get-hardware-generation"
    for number, generation in (("10.3", made["generation"]), ("8.9", "Ada"), ("8", "Ampere")):
        assert (await door.call("GET", f"{find}/{number}")).json()["generation"] == generation
    await door.call("DELETE", f"/hardware/{made['pk']}")
    for number in ("99", "x", "nan", "-1"):
        status, told = await door.refusal("GET", f"{find}/{number}/")
        assert (status, list(told)) == (400, ["detail"])


async def test_a_row_that_an_image_uses_cannot_be_deleted(
    door: CatalogDoor, others: CatalogDoor
) -> None:
    row = {"name": named(), "version": "1"}
    pk = (await door.call("POST", "/frameworks/create", json=row)).json()["pk"]
    used = await others.create(framework=pk)
    status, told = await door.refusal("DELETE", f"/frameworks/{pk}")
    assert (status, list(told)) == (409, ["detail"])
    assert str(used["pk"]) in told["detail"]
    await others.call("PATCH", f"/docker/{used['pk']}", json={"framework": 1})
    assert (await door.call("DELETE", f"/frameworks/{pk}")).status_code == 204
    status, told = await others.refusal("PATCH", f"/docker/{used['pk']}", json={"framework": pk})
    assert (status, list(told)) == (400, ["framework"])


async def test_an_image_and_the_deletion_of_what_it_refers_to_exclude_each_other(
    door: CatalogDoor,
) -> None:
    for _ in range(5):
        row = {"name": named(), "version": "1"}
        pk = (await door.call("POST", "/frameworks/create", json=row)).json()["pk"]
        body = {"name": named(), "framework": pk}
        made, gone = await asyncio.gather(
            door.call("POST", "/docker/create", json=image(**body)),
            door.call("DELETE", f"/frameworks/{pk}"),
        )
        assert (made.status_code, gone.status_code) in ((201, 409), (400, 204))


async def test_domains_are_fixed(door: CatalogDoor) -> None:
    for method, path in (("POST", "create"), *((m, "99") for m in ("PUT", "PATCH", "DELETE"))):
        assert (await door.refusal(method, f"/domains/{path}"))[0] == 403


async def test_lists_of_a_licence_are_changed_by_name(door: CatalogDoor) -> None:
    body = {"name": named(), "url": "https://a.example/b", "permissions": ["ignored"]}
    made = (await door.call("POST", "/licenses/create", json=body)).json()
    assert (made["permissions"], made["domains"]) == ([], [])
    path = f"/licences/{made['pk']}/subdescriptors"

    async def change(**body: object) -> tuple[int, object]:
        return await door.refusal("PATCH", path, json=body)

    add = {"method": "add", "type": "conditions"}
    status, shown = await change(**add, names=["State changes", "b", "b"])
    assert (status, shown) == (200, made | {"conditions": ["State changes", "b"]})
    status, shown = await change(method="remove", type="conditions", names=["b", "c"])
    assert (status, shown) == (200, made | {"conditions": ["State changes"]})
    for wrong in (
        {},
        add,
        add | {"names": "b"},
        add | {"names": [7]},
        {"method": "set", "type": "conditions", "names": []},
        {"method": "add", "type": "url", "names": []},
    ):
        status, told = await change(**wrong)
        assert (status, list(dict(told))) == (400, ["detail"])  # type: ignore[call-overload]


async def test_job_types_tell_their_values(door: CatalogDoor) -> None:
    made = await door.create()
    path = "/job-types/get-all-values"
    for kind, table in (("CUDAVersion", "cuda"), ("Domain", "domains"), ("DockerImage", "docker")):
        values = (await door.call("GET", f"{path}/{kind}")).json()
        assert values == (await door.call("POST", f"/{table}/list")).json()
    assert values == [made]
    status, told = await door.refusal("GET", f"{path}/Dataset")
    assert (status, list(told)) == (400, ["detail"])

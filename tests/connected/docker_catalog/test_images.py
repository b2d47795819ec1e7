"""Images of the catalogue through HTTP: made, read, changed, removed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pipeline.bootstrap.control_plane import SEALED
from pipeline.catalog.drafts import NO_HARDWARE, TAKEN
from pipeline.catalog.fields import BLANK, NO_BOOLEAN, NO_LIST, NO_STRING, NULL, REQUIRED
from pipeline.secrets.rotation import KeyRotation
from pipeline.secrets.vault import Vault
from schemas.registries.catalog import CatalogEntry
from tests.support.registries.catalog_door import CatalogDoor, image
from tests.support.secrets import NEW_KEY
from tests.support.tenants import principal

SHOWN = {
    "registry_username": "ci",
    "registry_password": " hunter 2 ",
    "cuda_version": {
        "pk": 3,
        "version": "11.8",
        "full_version": "11.8.0",
        "min_driver_version": "520.61.05",
    },
    "framework": {"pk": 1, "name": "tensorflow", "version": "1.14"},
    "domain": "Image Classification",
    "tasks": ["Predict", "Train"],
    "min_hardware_generation": {
        "pk": 6,
        "generation": "Turing",
        "min_compute_capability": 7.5,
        "max_compute_capability": 8.0,
    },
    "cpu": False,
    "licence": "MIT",
}
JSON = {"Content-Type": "application/json"}
SECRET = {"registry_username": "ci", "registry_password": " hunter 2 "}


async def test_what_is_created_is_shown_with_everything_it_refers_to(door: CatalogDoor) -> None:
    body = image(**SECRET)
    answer = await door.call("POST", "/docker/create", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    given = {name: body[name] for name in ("name", "version", "url", "registry_url")}
    assert made == {"pk": made["pk"], **given, **SHOWN}
    assert answer.headers["location"] == f"/v1/docker/{made['pk']}"
    again = await door.call("GET", f"/docker/{made['pk']}/")
    assert again.json() == made
    assert again.headers["etag"] == answer.headers["etag"]
    [listed] = (await door.call("POST", "/docker/list")).json()
    assert listed == made


async def test_every_way_to_name_what_an_image_refers_to_means_the_same(door: CatalogDoor) -> None:
    ways: dict[str, list[Any]] = {
        "cuda_version": ["11", "11.0", "11.00", 11, 11.0, {"pk": 11, "version": "9"}],
        "framework": [2, "2", {"pk": 2}, {"pk": "2"}],
        "domain": ["sp", "Speech", 5, "5", {"pk": 5}],
        "tasks": [["Train", "Predict", 1, "2"], [2, 1], [{"pk": 1}, {"pk": 2}, {"pk": 2}]],
        "min_hardware_generation": ["Ada", 9, {"pk": 9}],
        "licence": ["GPL3", 9, {"pk": 9}],
        "cpu": [True, 1, "true", "YES", "True"],
    }
    for field, values in ways.items():
        shown = [(await door.create(**{field: value}))[field] for value in values]
        assert shown[1:] == shown[:-1], field


ALL = {
    name: [REQUIRED]
    for name in (
        *("name", "version", "url", "registry_url", "cuda_version"),
        *("framework", "domain", "tasks", "licence"),
    )
} | {"min_hardware_generation": [NO_HARDWARE]}
UNSUITABLE: dict[str, list[Any]] = {
    "name": [None, "", " ", True, [], {}, "x" * 65, "a\0b", "\ud800"],
    "version": [None, False, "x" * 33],
    "url": [None, " ", "x" * 201],
    "registry_url": [None, "", True],
    "registry_username": ["", " ", True, "x" * 65],
    "registry_password": ["", False, "x" * 65],
    "cuda_version": [None, "11.8.0", "99", True, [], "NaN", "-1", {"version": "11.8"}, {}],
    "framework": [None, True, "tensorflow", 999, 1.0, {"pk": True}, {"name": "tensorflow"}],
    "domain": [None, "nothing", True, 99, []],
    "tasks": [None, "Train", ["Nothing"], [True], [None], {}],
    "min_hardware_generation": ["turing", 99, True, 7.5],
    "cpu": [None, "maybe", 2, []],
    "licence": [None, "mit", True, {}],
}


async def test_all_wrong_fields_are_told_together(door: CatalogDoor) -> None:
    assert await door.refusal("POST", "/docker/create", json={}) == (400, ALL)
    assert await door.refusal("POST", "/docker/create") == (400, ALL)
    several = image(name="", tasks="Train", cpu="x", licence=None)
    told = {"name": [BLANK], "tasks": [NO_LIST], "cpu": [NO_BOOLEAN], "licence": [NULL]}
    assert await door.refusal("POST", "/docker/create", json=several) == (400, told)
    booleans = image(name=True, version=False)
    told = {"name": [NO_STRING], "version": [NO_STRING]}
    assert await door.refusal("POST", "/docker/create", json=booleans) == (400, told)
    for field, values in UNSUITABLE.items():
        for value in values:
            # Half of a surrogate pair can be written, but not as UTF-8.
            sent = json.dumps(image(**{field: value}))
            status, told = await door.refusal("POST", "/docker/create", content=sent, headers=JSON)
            assert (status, list(told)) == (400, [field]), (field, value)
    assert (await door.call("POST", "/docker/list")).json() == []


async def test_numbers_become_text_and_text_is_trimmed(door: CatalogDoor) -> None:
    made = await door.create(name=" 7 ", version=1.5, unknown="ignored")
    assert (made["name"], made["version"]) == ("7", "1.5")
    assert "unknown" not in made


async def test_an_image_without_hardware_has_to_run_on_cpus(door: CatalogDoor) -> None:
    refused = (400, {"min_hardware_generation": [NO_HARDWARE]})
    body = image(min_hardware_generation=None)
    assert await door.refusal("POST", "/docker/create", json=body) == refused
    made = await door.create(min_hardware_generation=None, cpu=True)
    path = f"/docker/{made['pk']}"
    assert await door.refusal("PATCH", path, json={"cpu": False}) == refused
    assert await door.get(made["pk"]) == made


async def test_what_staff_read_can_be_put_back_without_effect(door: CatalogDoor) -> None:
    made = await door.create(**SECRET)
    before = await door.call("GET", f"/docker/{made['pk']}")
    after = await door.call("PUT", f"/docker/{made['pk']}", json=made)
    assert (after.status_code, after.json()) == (200, made)
    empty = await door.call("PATCH", f"/docker/{made['pk']}", json={})
    assert {each.headers["etag"] for each in (before, after, empty)} == {'"1"'}


async def test_optional_fields_that_put_leaves_out_stay(door: CatalogDoor) -> None:
    made = await door.create(**SECRET, cpu=True)
    path = f"/docker/{made['pk']}"
    whole = image(name=made["name"], licence="GPL2")
    del whole["min_hardware_generation"]
    put = (await door.call("PUT", path, json=whole)).json()
    assert put == made | {"licence": "GPL2"}
    status, told = await door.refusal("PUT", path, json={"name": "x"})
    assert status == 400
    assert "name" not in told
    assert told["version"] == [REQUIRED]
    patched = (await door.call("PATCH", path, json={"registry_password": None})).json()
    assert patched == put | {"registry_password": None}


async def test_passwords_are_shown_to_staff_and_nodes_and_kept_sealed(
    door: CatalogDoor, reader: CatalogDoor, node_door: CatalogDoor
) -> None:
    pk = (await door.create(**SECRET))["pk"]
    shown = [(await each.get(pk))["registry_password"] for each in (door, node_door, reader)]
    assert shown == [" hunter 2 ", " hunter 2 ", None]
    [listed] = (await reader.call("POST", "/docker/list")).json()
    assert listed["registry_password"] is None
    entry = await door.services.records.store.get(CatalogEntry, str(pk), org=door.org)
    assert "hunter" not in entry.model_dump_json()
    assert "hunter" not in repr(entry)


async def test_a_password_is_sealed_anew_also_while_its_image_is_changed(door: CatalogDoor) -> None:
    yard = door.services
    store, own = yard.records.store, yard.settings.encryption_keys.get_secret_value()
    made = await door.create(**SECRET)
    etag = (await door.call("GET", f"/docker/{made['pk']}")).headers["etag"]
    rotation = KeyRotation(store, Vault.from_setting(f"{NEW_KEY},{own}"), SEALED)
    change = store.change

    async def rotate_first(*args: Any, **kwargs: Any) -> Any:
        patch.undo()
        assert (await rotation.run()).unreadable == ()
        return await change(*args, **kwargs)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "change", rotate_first)
            changed = await yard.catalog.service.update(
                principal(door.org), made["pk"], {"name": "other"}, partial=True
            )
        sealed = {"org": door.org, "record": f"catalog-{made['pk']}"}
        assert (
            Vault.from_setting(NEW_KEY).open(str(changed.sealed_password), **sealed)
            == (SECRET["registry_password"])
        )
    finally:
        back = KeyRotation(store, Vault.from_setting(f"{own},{NEW_KEY}"), SEALED)
        assert (await back.run()).unreadable == ()
    shown = await door.call("GET", f"/docker/{made['pk']}")
    assert shown.json() == made | {"name": "other"}
    assert (etag, shown.headers["etag"]) == ('"1"', '"2"')


async def test_who_is_no_staff_only_reads(
    door: CatalogDoor, reader: CatalogDoor, node_door: CatalogDoor
) -> None:
    pk = (await door.create())["pk"]
    for each in (reader, node_door):
        assert (await each.call("POST", "/docker/list")).status_code == 200
        for method, path in (
            ("POST", "/docker/create"),
            *((method, f"/docker/{pk}") for method in ("PUT", "PATCH", "DELETE")),
            ("DELETE", "/docker/nonsense"),
        ):
            answer = await each.call(method, path, content=b"{", headers={"If-Match": '"9"'})
            assert (answer.status_code, list(answer.json())) == (403, ["detail"])


async def test_images_of_others_are_unknown(door: CatalogDoor, others: CatalogDoor) -> None:
    pk = (await door.create())["pk"]
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert (await others.call(method, f"/docker/{pk}", json={})).status_code == 404
    assert (await others.call("POST", "/docker/list")).json() == []


@pytest.mark.parametrize("pk", ["0", "abc", "-1", "1.0", "9" * 19, "9" * 400, "١"])
async def test_a_key_that_names_nothing_is_not_found(door: CatalogDoor, pk: str) -> None:
    assert (await door.call("GET", f"/docker/{pk}")).status_code == 404


async def test_a_stale_tag_is_refused_before_the_body_is_looked_at(door: CatalogDoor) -> None:
    pk = (await door.create())["pk"]
    path = f"/docker/{pk}"
    changed = await door.call("PATCH", path, json={"name": "other"}, headers={"If-Match": '"1"'})
    assert changed.headers["etag"] == '"2"'
    for method in ("PUT", "PATCH", "DELETE"):
        headers = {"If-Match": '"1"', "Content-Type": "text/plain"}
        stale = await door.call(method, path, content=b"x", headers=headers)
        assert (stale.status_code, list(stale.json())) == (412, ["detail"])
    assert (await door.call("PATCH", path, content=b"x")).status_code == 415
    anyone = await door.call("DELETE", path, headers={"If-Match": "*"})
    assert (anyone.status_code, "content-type" in anyone.headers) == (204, False)
    assert (await door.call("GET", path)).status_code == 404
    found = await door.services.records.store.find_by_id(CatalogEntry, str(pk), org=door.org)
    assert found is None


async def test_forms_say_what_json_says(door: CatalogDoor) -> None:
    fields = image(tasks=["Train", "Predict"], cpu="yes", framework="1")
    made = await door.call("POST", "/docker/create", data=fields)
    assert made.status_code == 201, made.text
    assert (made.json()["tasks"], made.json()["cpu"]) == (["Predict", "Train"], True)
    parts = [(name, (None, str(value))) for name, value in (image(tasks=1) | {"cpu": "no"}).items()]
    made = await door.call("POST", "/docker/create", files=parts)
    assert made.status_code == 201, made.text
    assert made.json()["tasks"] == ["Predict"]
    upload = {"name": ("a.bin", b"x")}
    status, told = await door.refusal("POST", "/docker/create", files=upload)
    assert (status, told["name"]) == (400, [NO_STRING])


async def test_a_body_that_is_no_object_says_so(door: CatalogDoor) -> None:
    for body in ("null", "[]", '"a"', "7"):
        headers = {"Content-Type": "application/json; charset=utf-8"}
        refusal = await door.refusal("POST", "/docker/create", content=body, headers=headers)
        assert refusal == (400, {"non_field_errors": ["Invalid data. Expected an object."]})
    for body in (b"{", b"\xff", b'{"a": NaN}', b"[" * 5000):
        headers = {"Content-Type": "application/json"}
        status, told = await door.refusal("POST", "/docker/create", content=body, headers=headers)
        assert (status, list(told)) == (400, ["detail"]), body[:9]
    node = await door.refusal("POST", "/docker/list", headers={"Node-Id": "one"})
    assert (node[0], list(node[1])) == (400, ["detail"])
    for id in ("7", "-1", "9" * 30):
        assert (await door.call("POST", "/docker/list", headers={"Node-Id": id})).status_code == 200


async def test_name_and_version_are_unique_also_in_a_race(
    door: CatalogDoor, others: CatalogDoor
) -> None:
    body = image()
    answers = await asyncio.gather(
        *(door.call("POST", "/docker/create", json=body) for _ in range(8))
    )
    assert sorted(each.status_code for each in answers) == [201] + [400] * 7
    lost = [each.json() for each in answers if each.status_code == 400]
    assert lost == [{"non_field_errors": [TAKEN]}] * 7
    await others.create(name=body["name"], version=body["version"])
    second = await door.create(name=body["name"], version="2")
    refusal = await door.refusal("PATCH", f"/docker/{second['pk']}", json={"version": "1.0"})
    assert refusal == (400, {"non_field_errors": [TAKEN]})


async def test_200_creations_at_once_lose_nothing_and_share_no_key(door: CatalogDoor) -> None:
    made = await asyncio.gather(*(door.create(name=f"image {n}") for n in range(200)))
    keys = sorted(each["pk"] for each in made)
    assert keys == list(range(keys[0], keys[0] + 200))
    answer = await door.call("POST", "/docker/list?limit=0")
    assert (answer.json(), answer.headers["x-total-count"]) == ([], "200")


async def test_paths_and_methods_that_are_not_there_are_told_before_the_token(
    door: CatalogDoor,
) -> None:
    wrong = await door.call("GET", "/docker/list", headers={"Authorization": ""})
    assert (wrong.status_code, list(wrong.json())) == (405, ["detail"])
    assert wrong.headers["allow"] == "POST"
    for path in ("/docker", "/nothing", "/docker/1/2"):
        answer = await door.call("GET", path)
        assert (answer.status_code, list(answer.json())) == (404, ["detail"])

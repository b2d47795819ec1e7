"""What the indexes promise: uniqueness, and no query that reads a whole collection."""

from __future__ import annotations

import uuid

import pytest

from pipeline.adapters.store.indexes import INDEXES, SOME_TIME, Index, indexes_of
from pipeline.adapters.store.store import KINDS, Store
from pipeline.errors import AlreadyExists
from schemas.access import Role, Token, User
from schemas.base import Record
from schemas.container import Container, Desired, Volume
from schemas.image import Image
from schemas.node import Node
from schemas.organisation import Organisation
from schemas.registries.catalog import CatalogEntry, CatalogRow, TableName
from schemas.registries.registry import Registry
from schemas.registries.secret import Secret
from schemas.states import ContainerStatus, ImageStatus, NodeStatus
from schemas.webhook import Webhook
from tests.support.records import AT, ORG, after, container, deployment, image, node


async def test_the_same_id_is_refused_by_the_name_of_the_index(store: Store) -> None:
    mine = await store.insert(image())
    with pytest.raises(AlreadyExists) as refused:
        await store.insert(mine)
    assert refused.value.facts == {"index": "_id_"}


def _twins(kind: type[Record]) -> tuple[Record, Record]:
    def base(kind: type[Record]) -> dict[str, object]:
        new = str(uuid.uuid4())
        return {"uuid": new, "org": ORG, "created_at": AT, "updated_at": AT}

    match kind.resource:
        case "image":
            return image(named=True), image(named=True)
        case "container":
            return container(name="one"), container(name="one")
        case "node":
            return node("one"), node("one")
        case "user":
            given = {"name": "ann", "password_hash": "x", "role": Role.ADMIN}
            return User(**base(User), **given), User(**base(User), **given)
        case "secret":
            given = {"name": "s", "secret_type": "registry", "server": "r", "sealed": "x"}
            return Secret(**base(Secret), **given), Secret(**base(Secret), **given)
        case "organisation":
            named = {"slug": "one", "name": "One"}
            first = Organisation(**base(Organisation), **named)
            return first, Organisation(**base(Organisation), **named)
        case "volume":
            at = {"name": "web", "path": "/data", "container": "c", "node": "n", "node_name": "n"}
            return Volume(**base(Volume), **at), Volume(**base(Volume), **at)
        case "deployment":
            return deployment(name="one"), deployment(name="one")
        case "webhook":
            hook = {"name": "w", "url": "http://w", "resources": [], "kinds": [], "after": 0}
            return Webhook(**base(Webhook), **hook), Webhook(**base(Webhook), **hook)
        case "registry":
            given = {
                "id": "r",
                "public_url": "http://r",
                "host": "r",
                "check_at": AT,
                "changed_at": AT,
            }
            return Registry(**base(Registry), **given), Registry(**base(Registry), **given)
        case "catalog-row":
            row = {"table": TableName.CUDA, "pk": 1, "values": {}, "claims": ["cuda version 1"]}
            return CatalogRow(**base(CatalogRow), **row), CatalogRow(**base(CatalogRow), **row)
        case "catalog":
            known = dict.fromkeys(("cuda_version", "framework", "domain", "licence"), 1)
            known |= dict.fromkeys(("name", "version", "url", "registry_url"), "one")
            known |= {"pk": 1, "tasks": [], "changed_at": AT}
            return CatalogEntry(**base(CatalogEntry), **known), CatalogEntry(
                **base(CatalogEntry), **known
            )
    raise AssertionError(f"{kind} has no twins")


UNIQUE = [kind for kind in KINDS if any(index.unique for index in INDEXES[kind])]


@pytest.mark.parametrize("kind", UNIQUE, ids=lambda kind: kind.resource)
async def test_what_must_be_unique_is_refused_twice(store: Store, kind: type[Record]) -> None:
    first, second = _twins(kind)
    unique = [index.name for index in INDEXES[kind] if index.unique]
    await store.insert(first)
    with pytest.raises(AlreadyExists) as refused:
        await store.insert(second)
    assert refused.value.facts["index"] in unique


@pytest.mark.parametrize("kind", [Image, Container, User, Secret], ids=lambda kind: kind.resource)
async def test_another_organisation_may_use_the_same_name(store: Store, kind: type[Record]) -> None:
    first, second = _twins(kind)
    await store.insert(first)
    await store.insert(second.model_copy(update={"org": "other"}))


async def test_names_are_free_again_after_a_delete(store: Store) -> None:
    one = await store.insert(image(named=True))
    await store.change(one, {}, at=after(1), status=ImageStatus.DELETED)
    await store.insert(image(named=True))
    first = await store.insert(container(name="one"))
    # As soon as its removal is asked for, however long that takes.
    await store.change(first, {"desired": Desired.DELETED}, at=after(1))
    second = await store.insert(container(name="one"))
    await store.change(second, {}, at=after(1), status=ContainerStatus.DELETED)
    await store.insert(container(name="one"))
    old = await store.insert(node("one"))
    await store.change(old, {}, at=after(1), status=NodeStatus.DELETED)
    await store.insert(node("one"))


async def test_images_without_a_chosen_name_may_share_a_reference(store: Store) -> None:
    await store.insert(image())
    await store.insert(image())
    assert await store.count(Image, org=ORG) == 2


async def test_preparing_again_changes_nothing(store: Store) -> None:
    before = await _index_names(store, Image)
    await store.prepare()
    assert await _index_names(store, Image) == before


async def test_an_index_whose_definition_changed_is_rebuilt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Index("digest", (("digest", -1),))
    monkeypatch.setitem(INDEXES, Image, (changed,))
    await store.prepare()
    info = await store._database[Image.collection].index_information()
    assert info["digest"]["key"] == [("digest", -1)]
    await store.insert(image(named=True))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
def test_no_two_indexes_of_a_kind_share_a_name(kind: type[Record]) -> None:
    names = [index.name for index in indexes_of(kind)]
    assert len(names) == len(set(names))


def test_every_kind_of_record_has_a_row() -> None:
    def kinds(root: type[Record]) -> set[type[Record]]:
        return {root}.union(*(kinds(child) for child in root.__subclasses__()))

    stored = {kind for kind in kinds(Record) if "collection" in vars(kind)}
    assert stored == set(KINDS)
    assert len({kind.collection for kind in KINDS}) == len(KINDS)


_BY_STATUS = {"status": {"$ne": "DELETED"}}
QUERIES = {
    "newest images": (Image, {"org": ORG}, True),
    "living images": (Image, {"org": ORG, **_BY_STATUS}, True),
    "images of a status": (Image, {"org": ORG, "status": "READY"}, True),
    "images of a name": (Image, {"org": ORG, "name": "x", **_BY_STATUS}, True),
    "images of a digest": (Image, {"org": ORG, "digest": "x"}, False),
    "an image by its id": (Image, {"org": ORG, "_id": "x"}, False),
    "an image by its chosen name": (
        Image,
        {"org": ORG, "name": "x", "named": True, **_BY_STATUS},
        True,
    ),
    "an image by name or reference": (
        Image,
        {"org": ORG, "$or": [{"name": "x"}, {"reference": "x"}], **_BY_STATUS},
        False,
    ),
    "a later page": (
        Image,
        {"org": ORG, "$and": [{"created_at": {"$lte": AT}, "$or": [{"created_at": {"$lt": AT}}]}]},
        True,
    ),
    "stuck images": (
        Image,
        {"status": {"$in": ["PENDING", "VALIDATING"]}, "updated_at": {"$lt": AT}},
        False,
    ),
    "containers on a node": (Container, {"node": "x", **_BY_STATUS}, False),
    "containers of an image": (Container, {"org": ORG, "image": "x", **_BY_STATUS}, False),
    "stuck containers": (Container, {"status": "REQUESTED"}, False),
    "a user at the login": (User, {"name": "ann"}, False),
    "users of whom something is revoked": (
        User,
        {"$or": [{"active": False}, {"generation": {"$gt": 0}}]},
        False,
    ),
    "what is revoked": (
        Token,
        {"expires_at": {"$gt": AT}, "revoked_at": {"$gt": SOME_TIME}, "kind": {"$in": ["jwt"]}},
        False,
    ),
    "sessions that have ended": (
        Token,
        {"org": ORG, "kind": {"$in": ["jwt", "session"]}, "expires_at": {"$gt": AT}},
        False,
    ),
    "images that use a secret": (Image, {"org": ORG, "secret": "x", **_BY_STATUS}, False),
    "a secret by name": (Secret, {"org": ORG, "name": "x"}, False),
    "silent nodes": (Node, {"status": {"$in": ["READY"]}, "last_heartbeat": {"$lt": AT}}, False),
} | {f"unsent {kind.resource}s": (kind, {"outbox.time": {"$lt": AT}}, False) for kind in KINDS}


@pytest.mark.parametrize("query", QUERIES)
async def test_no_query_reads_a_whole_collection(store: Store, query: str) -> None:
    kind, where, pages = QUERIES[query]
    cursor = store._database[kind.collection].find(where)
    if pages:
        cursor = cursor.sort([("created_at", -1), ("_id", -1)])
    stages = _stages((await cursor.explain())["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" not in stages
    assert "IXSCAN" in stages
    assert not (pages and "SORT" in stages)


async def test_a_sweep_that_finds_nothing_reads_nothing(store: Store) -> None:
    for _ in range(20):
        await store.insert(image())
    cursor = store._database[Image.collection].find({"outbox.time": {"$lt": after(60)}})
    stats = (await cursor.explain())["executionStats"]
    assert (stats["totalKeysExamined"], stats["totalDocsExamined"]) == (0, 0)


def _stages(plan: dict[str, object]) -> set[object]:
    found = {plan["stage"]}
    inner = [plan[key] for key in ("inputStage",) if key in plan]
    inner += plan.get("inputStages", [])  # type: ignore[operator]
    return found.union(*(_stages(each) for each in inner))  # type: ignore[arg-type]


async def _index_names(store: Store, kind: type[Record]) -> set[str]:
    return set(await store._database[kind.collection].index_information())

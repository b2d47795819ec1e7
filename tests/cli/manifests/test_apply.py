"""What `apply` and `export` ask for, and what they say of documents that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import Result

from cli.console import FAILED, MISSING, USAGE
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]
ID = "0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0"
IMAGE = {
    **{"uuid": ID, "name": "a", "named": True, "reference": "host/a:1", "source": "reference"},
    **{"requested_platform": None, "secret": None, "requested_needs": None, "labels": {}},
    **{"defaults": {"gpus": None}, "annotations": {"modelyard-apply": "models"}},
}
DEPLOYMENT = {
    **{"uuid": ID, "name": "d", "owner": None, "min_replicas": 1, "max_replicas": 2},
    **{"template": {"spec": {"image": ID, "env": {"K": "v"}, "name": None}}, "autoscale": None},
    **{"annotations": {"modelyard-apply": "models", "own": "1"}, "max_calls": 0, "idle_s": 900},
    **{"in_place": False, "rollout_timeout_s": 600, "drain_s": 10},
}
WEBHOOK = {
    **{"uuid": ID, "name": "w", "url": "https://host/", "resources": [], "kinds": []},
    "status": "DISABLED",
}
SECRET = {"uuid": ID, "name": "s", "secret_type": "registry", "server": "host"}
ENTRY = {
    "container_registry_id": "r",
    "container_registry_public_url": "https://host",
    "container_registry_secret": ID,
}


@pytest.fixture(autouse=True)
def site(yard: Yard) -> Yard:
    for path, items in (
        ("images", [IMAGE]),
        ("deployments", [DEPLOYMENT]),
        ("webhooks", [WEBHOOK]),
        ("secrets", [SECRET]),
    ):
        yard.says(f"GET /{path}", {"items": items, "next": None})
    yard.otherwise = lambda _: httpx.Response(200, json={"uuid": ID})
    yard.says("POST /container_registries", {"success": True, "data": [ENTRY]})
    return yard


@pytest.fixture
def apply(command: Command, tmp_path: Path) -> Callable[..., Result]:
    def run(*documents: dict[str, Any] | str, options: str = "--yes") -> Result:
        texts = [each if isinstance(each, str) else yaml.safe_dump(each) for each in documents]
        file = tmp_path / "models.yaml"
        file.write_text("---\n".join(texts))
        return command("apply", "-f", str(file), *options.split())

    return run


def changes(yard: Yard) -> list[tuple[str, Any]]:
    """What was asked for, but looks."""
    found = zip(yard.asked, yard.bodies, strict=True)
    return [
        (asked, json.loads(body or b"null"))
        for asked, body in found
        if not asked.startswith(("GET", "POST /container_registries"))
    ]


def test_what_is_exported_is_no_difference(
    yard: Yard, command: Command, apply: Callable[..., Result]
) -> None:
    text = command("export").stdout
    documents = list(yaml.safe_load_all(text))
    kinds = [each["kind"] for each in documents]
    assert kinds == ["Secret", "Registry", "Image", "Deployment", "Webhook"]
    assert documents[1]["secret"] == "s"
    assert documents[3]["template"] == {"image": "a", "env": {"K": "v"}}
    assert documents[3]["annotations"] == {"own": "1"}
    assert "modelyard-apply" not in text
    assert documents[4]["active"] is False
    done = apply(text, options="--prune --yes")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "0 to change, 5 as they should be.\n"
    assert changes(yard) == []


def test_only_what_differs_is_sent_and_a_mark_stays(
    yard: Yard, apply: Callable[..., Result]
) -> None:
    wanted = {"kind": "Deployment", "name": "d", "template": {"image": "a"}, "max_replicas": 4}
    done = apply(wanted | {"annotations": {"own": "2"}})
    assert done.exit_code == 0, done.stderr
    assert "max_replicas: 2 → 4" in done.stdout
    body = {"max_replicas": 4, "annotations": {"own": "2", "modelyard-apply": "models"}}
    assert changes(yard) == [(f"PATCH /deployments/{ID}", body)]


def test_what_is_made_is_marked_and_values_of_secrets_come_from_elsewhere(
    yard: Yard, apply: Callable[..., Result], bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("WORD", "hidden")
    data = {"username": "robot", "server": "host", "password": {"env": "WORD"}}
    new = {"kind": "Secret", "name": "new", "data": data}
    replica = {"kind": "Deployment", "name": "new", "template": {"image": "a"}}
    done = apply(replica, new)
    assert done.exit_code == 0, done.stderr
    assert "hidden" not in done.output
    (first, secret), (second, deployment) = changes(yard)
    assert (first, second) == ("POST /secrets", "POST /deployments")
    assert secret["data"] == {"username": "robot", "server": "host", "password": "hidden"}
    assert deployment["annotations"] == {"modelyard-apply": "models"}


def test_a_prune_deletes_what_this_set_made_and_nothing_else(
    yard: Yard, apply: Callable[..., Result]
) -> None:
    # Its image cannot go before it is gone.
    gone = {"uuid": ID, "status": "DELETED", "reason": None}
    yard.says(f"DELETE /deployments/{ID}", gone)
    done = apply("", options="--prune --yes")
    assert done.stdout.splitlines() == ["- Deployment d", "- Image a"]
    assert changes(yard) == [(f"DELETE /deployments/{ID}", None), (f"DELETE /images/{ID}", None)]
    assert apply("", options="--prune --yes --set other").stdout == ""
    assert apply("").stdout == ""


@pytest.mark.parametrize("options", ["--dry-run", ""])
def test_nothing_is_changed_without_a_yes(
    yard: Yard, apply: Callable[..., Result], options: str
) -> None:
    done = apply({"kind": "Webhook", "name": "w", "url": "https://other/"}, options=options)
    assert done.exit_code == (0 if options else USAGE)
    assert "~ Webhook w" in done.stdout
    assert changes(yard) == []


def test_a_refusal_names_the_document_and_ends_the_rest(
    yard: Yard, apply: Callable[..., Result]
) -> None:
    yard.says("POST /deployments", {"title": "Not Found", "detail": "No such image."}, 404)
    new = {"kind": "Deployment", "name": "new", "template": {"image": "none"}}
    done = apply(new, {"kind": "Webhook", "name": "w", "url": "https://other/"})
    assert done.exit_code == MISSING
    assert "No such image." in done.stderr
    assert "models.yaml, document 1 (line 1): Deployment new is not done" in done.stderr
    assert len(changes(yard)) == 1


def test_what_cannot_be_changed_is_told_before_anything_is_done(
    yard: Yard, apply: Callable[..., Result]
) -> None:
    done = apply(
        {"kind": "Webhook", "name": "new", "url": "https://host/"},
        {"kind": "Image", "name": "a", "reference": "host/a:2"},
    )
    assert done.exit_code == FAILED
    assert "document 2 (line 5), field reference: an image is not changed" in done.stderr
    assert changes(yard) == []


WRONG = {
    "- a": "document 1 (line 1): a document is an object",
    "kind: Thing": "document 1 (line 1), field kind: 'Thing' is none of Secret, Registry, Image",
    "kind: [Image]": "field kind: ['Image'] is none of",
    "kind: Image\nrefrence: a": "field refrence: Image has no such field",
    "kind: Image\nname: a": "field reference: is missing",
    "kind: Image\nreference: a\n---\nkind: Image\nreference: a": "there is another Image a",
    "kind: a\nb: c: d": "line 2: no YAML",
    "kind: Secret\nname: n\ndata: {password: p}": "field data.password: give {env: VARIABLE} or",
    "kind: Secret\nname: n\ndata: {password: {env: NO_SUCH}}": "the variable NO_SUCH is not set",
    "kind: Secret\nname: n\ndata: {password: {file: /no/such}}": "/no/such cannot be read",
    "!!python/object:os.system {}": "no YAML: could not determine a constructor",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_with_its_file_document_and_field(
    yard: Yard, apply: Callable[..., Result], text: str
) -> None:
    done = apply(text)
    assert done.exit_code == USAGE
    assert WRONG[text] in done.stderr
    assert "models.yaml" in done.stderr
    assert changes(yard) == []

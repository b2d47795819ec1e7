"""The command line does what the API does: each operation has its command, or a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import Result

from api.app import create
from cli.contexts import Context, Contexts, Login
from pipeline.settings import Settings
from schemas.registries.catalog import TableName
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.http.said_yard import Reply, Yard

ARCHIVE = docker_archive(busybox_image(), "team/model:1")
ID = "0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0"
MODEL = "/api/models/m"
VERSION = f"{MODEL}/versions/1.0.0"
COMMANDS = {
    "submit_image": "images add host/a:1",
    "list_images": "images list",
    "find_image": "images show a",
    "get_image": f"images show {ID}",
    "delete_image": f"images delete {ID}",
    "build_image": "images build https://host/a.git --name a --no-wait",
    "list_builds": "builds list",
    "get_build": f"builds show {ID}",
    "cancel_build": f"builds cancel {ID}",
    "read_output": f"builds output {ID}",
    "create_upload": "images push {file}",
    "present_layers": "images push {archive}",
    "continue_upload": "images push {file}",
    "locate_upload": "images push {file}",
    "get_upload": "images push {file}",
    "run_container": "containers run a --no-wait",
    "list_containers": "containers list",
    "find_container": "containers show a",
    "get_container": f"containers show {ID}",
    "delete_container": f"containers delete {ID}",
    "stop_container": f"containers stop {ID}",
    "start_container": f"containers start {ID}",
    "restart_container": f"containers restart {ID}",
    "replace_container": f"containers replace {ID} a --no-wait",
    "call_container": f"containers call {ID}",
    "run_command": f"containers exec {ID} -- ls",
    "list_stats": "top",
    "get_stats": f"top {ID}",
    "list_volumes": "volumes list",
    "delete_volume": f"volumes delete {ID}",
    "read_logs": f"logs {ID}",
    "create_deployment": "deployments create d a --no-wait",
    "list_deployments": "deployments list",
    "find_deployment": "deployments show d",
    "get_deployment": f"deployments show {ID}",
    "edit_deployment": f"deployments edit {ID} --min 1",
    "delete_deployment": f"deployments delete {ID}",
    "scale_deployment": f"deployments scale {ID} 2",
    "get_scaling": f"deployments autoscale {ID}",
    "start_deployment": f"deployments start {ID}",
    "stop_deployment": f"deployments stop {ID}",
    "restart_deployment": f"deployments restart {ID}",
    "roll_back_deployment": f"deployments rollback {ID}",
    "list_nodes": "nodes list",
    "find_node": "nodes show a",
    "get_node": f"nodes show {ID}",
    "delete_node": f"nodes delete {ID}",
    "cordon_node": f"nodes cordon {ID}",
    "uncordon_node": f"nodes uncordon {ID}",
    "drain_node": f"nodes drain {ID}",
    "resume_node": f"nodes resume {ID}",
    "follow_events": "events",
    "get_timeline": f"timeline images {ID}",
    "list_audit_entries": "audit",
    "list_dead_letters": "dead-letters list",
    "get_dead_letter": "dead-letters show 7",
    "drop_dead_letter": "dead-letters drop 7",
    "reveal_dead_letter": "dead-letters show 7 --whole",
    "requeue_dead_letter": "dead-letters requeue 7",
    "create_token": "token create ci",
    "list_tokens": "token list",
    "get_token": "token show 7",
    "revoke_token": "token revoke 7",
    "log_in": "login -u ada --password-stdin",
    "refresh": "images list",
    "log_out": "logout",
    "show_caller": "whoami",
    "create_organisation": "orgs create team",
    "list_organisations": "orgs list",
    "get_organisation": "orgs show team",
    "edit_organisation": "orgs edit team --gpus 8",
    "delete_organisation": "orgs delete team",
    "create_user": "users create ada --password-stdin",
    "list_users": "users list",
    "get_user": "users show ada",
    "edit_user": "users disable ada",
    "list_repositories": "registries repositories r",
    "list_tags": "registries tags r team/a",
    "list_checks": "registries checks r",
    "list_registry_secrets": "secrets list",
    "add_registry_secret": "secrets add s --username ada --password-stdin",
    "get_registry_secret": "secrets show s",
    "delete_registry_secret": "secrets delete s",
    "rotate_key": "secrets rotate-key",
    "create_webhook": "webhooks create w https://host/hook",
    "list_webhooks": "webhooks list",
    "get_webhook": "webhooks show w",
    "edit_webhook": "webhooks disable w",
    "delete_webhook": "webhooks delete w",
    "show_signing_secret": "webhooks secret w",
    "rotate_signing_secret": "webhooks rotate-secret w",
    "send_test": "webhooks test w",
    "list_deliveries": "webhooks deliveries w",
    "send_delivery_again": f"webhooks send w {ID}",
    "api_list_models": "models list",
    "api_create_model": "models create m 1.0.0",
    "api_list_requirements": "models requirements",
    "api_get_model": "models show m",
    "api_patch_model": "models update m {{}}",
    "api_list_versions": "models versions m",
    "api_create_version": "models versions m --add 1.1.0",
    "api_get_version": "models show m 1.0.0",
    "api_patch_version": "models update m {{}} --version 1.0.0",
    "api_deliver_image": "models image m 1.0.0 host/a:1",
    "api_get_image": "models image m 1.0.0",
    "api_load": "models load m 1.0.0",
    "api_get_load": "models load m 1.0.0 --status",
    "api_begin_run": "models test m 1.0.0",
    "api_get_run": "models test m 1.0.0 --status",
    "api_call_model": "models run m 1.0.0",
    "api_shut_down": "models shutdown m 1.0.0",
    "api_put_test_input": "models input m 1.0.0 {file}",
    "api_put_sample_input": "models sample m 1.0.0 input 1",
    "api_get_sample_input": "models sample m 1.0.0 input",
    "api_put_sample_output": "models sample m 1.0.0 output 1",
    "api_get_sample_output": "models sample m 1.0.0 output",
    "api_put_picture": "models picture m {file}",
    "api_get_picture": "models picture m",
    "container_registry_create_container_registry": "registries add http://host",
    "container_registry_get_container_registry": "registries show r",
    "container_registry_update_container_registry": "registries update r {{}}",
    "container_registry_delete_container_registry": "registries delete r",
    "container_registries_query_container_registries": "registries search {{}}",
    "check_container_health": "registries check r",
    "list_image_nodes": f"images nodes {ID}",
    "get_catalog_entry": "catalog show 7",
    "list_catalog_nodes": "catalog nodes 7",
    "v1_list_docker_images": "catalog list",
    "v1_create_docker_image": "catalog add {{}}",
    "v1_retrieve_docker_image": "catalog reveal 7",
    "v1_partial_update_docker_image": "catalog update 7 {{}}",
    "v1_destroy_docker_image": "catalog delete 7",
}
ROWS = {"list": "rows {}", "create": "add-row {} {{{{}}}}", "retrieve": "show-row {} 7"}
ROWS |= {"partial_update": "update-row {} 7 {{{{}}}}", "destroy": "delete-row {} 7"}
COMMANDS |= {
    f"v1_{verb}_{table.replace('-', '_')}": f"catalog {line.format(table)}"
    for table in TableName
    for verb, line in ROWS.items()
}
SERVICE = {
    **dict.fromkeys(("run_container", "run_container_by_post"), "`containers run`"),
    **{f"{verb}_container": f"`containers {verb}`" for verb in ("stop", "restart")},
    "remove_container": "`containers delete`",
    "list_containers": "`containers list`",
    **dict.fromkeys(("build_image", "build_sent_context"), "`images build`"),
    **dict.fromkeys(("is_running", "get_container_summary", "get_operation"), "`containers show`"),
    **dict.fromkeys(("list_logs", "follow_logs"), "`logs`"),
    **{"get_daemon_info": "`nodes list`", "get_host": "`nodes show`"},
}
NO_COMMAND = {
    **{
        f"v1_update_{table.replace('-', '_')}": "what `catalog update-row` does with all fields"
        for table in TableName
    },
    "v1_update_docker_image": "what `catalog update` does with all fields",
    "v1_change_subdescriptors": "what licences say is settled; operators call it by HTTP",
    "v1_get_hardware_generation": "`catalog rows hardware` shows all of them",
    "v1_get_all_values": "another form of what `catalog rows` and `catalog list` show",
    "v1_obtain": "another form of what `login` does",
    "v1_refresh": "clients do it on their own",
    "v1_verify": "`whoami` tells whether the token is good",
    "describe_uploads": "for tus clients that do not know the server; ours does",
    "list_uploads": "for the dashboard; `images list` shows what is on its way",
    "delete_upload": "`images push` gives up uploads of an archive that changed; others expire",
    "accounts_list_secrets": "another form of what `secrets list` shows",
    "accounts_create_secret": "another form of what `secrets add` does",
    "accounts_get_secret": "another form of what `secrets show` shows",
    "accounts_delete_secret": "another form of what `secrets delete` does",
    "accounts_get_secret_config": "a form for web pages; `secrets add --help` says the same",
    "models_create_model_repo": "another form of what `images add` does",
    "models_get_model_repos": "another form of what `images list` and `images show` show",
    "models_delete_model_repo": "another form of what `images delete` does",
    **{f"container_svc_{name}": f"another form of {other}" for name, other in SERVICE.items()},
    "container_svc_is_image_pullable": "`images add` says the same, and why not",
    "user_svc_log_in": "another form of what `login` does",
    "deployments_create_private_deployment": "what `deployments create --gpu-model` does",
    "deployments_create_byoc_deployment": "what `deployments create --node-group` does",
    "deployments_list_model_deployments": "another form of what `deployments list` shows",
    "deployments_list_by_model": "another form of what `deployments list` shows",
    "deployments_get_model_deployment": "another form of what `deployments show` shows",
    "deployments_fetch_status": "another form of what `deployments show` shows",
    "deployments_edit_deployment": "another form of what `deployments edit` does",
    "deployments_start_or_stop": "another form of what `deployments start` and `stop` do",
    "deployments_restart_deployment": "another form of what `deployments restart` does",
    "deployments_update_replicas": "another form of what `deployments edit` does",
    "deployments_delete_deployment": "another form of what `deployments delete` does",
    "list_registries": "what `registries list` shows, in the form of the dashboard",
    "get_registry": "what `registries show` shows, in the form of the dashboard",
    "token_registry_token": "asked by engines and registry clients on their own",
    "healthz": "for load balancers",
    "readyz": "for load balancers; `doctor` asks it about the stack of this machine",
    "metrics": "for Prometheus",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create(Settings(signing_key=SecretStr("x" * 40))).openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, str]:
    """Method and path by the operation's id."""
    return {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@pytest.fixture
def known(yard: Yard) -> Yard:
    """Knows what a command looks for before it asks for what it is about."""
    yard.otherwise = lambda _: httpx.Response(200, json={})
    for kind in ("images", "containers", "deployments", "nodes"):
        yard.says(f"GET /{kind}/find", {"uuid": ID})
    ruled = dict.fromkeys(("name", "ready", "replicas", "min_replicas", "max_replicas", "scaling"))
    policy = {"targets": [{"metric": "cpu", "value": 50}], "schedules": []}
    yard.says(f"GET /deployments/{ID}", {**ruled, "uuid": ID, "autoscale": policy})
    known = {"uuid": ID, "quotas": {}}
    yard.replies["GET /organisations/team"] = lambda _: httpx.Response(
        200, json=known, headers={"ETag": '"1"'}
    )
    yard.says("GET /webhooks/w", {"uuid": ID})
    yard.says("GET /api/models", [{"identifier": "m"}])
    for table in ("docker", *TableName):
        yard.says(f"POST /v1/{table}/list", [])
        yard.says(f"POST /v1/{table}/create", {"pk": 7})
    yard.says("POST /uploads/present", {"present": []})
    where = {"Location": "/yard/v1/uploads/one"}
    yard.replies["POST /uploads"] = lambda _: httpx.Response(201, headers=where)
    for method, offset in (("HEAD", "0"), ("PATCH", "2")):
        yard.replies[f"{method} /uploads/one"] = at(offset)
    for ending in ("/load-process", "/run-process", "/container-image"):
        yard.says(f"GET {VERSION}{ending}", {"percentage": 100, "uploadPercentage": 100})
    return yard


def at(offset: str) -> Reply:
    headers = {"Upload-Offset": offset, "Upload-Length": "2"}
    return lambda _: httpx.Response(200, headers=headers)


def test_every_operation_has_a_command_or_a_reason(operations: dict[str, str]) -> None:
    assert COMMANDS.keys() | NO_COMMAND.keys() == operations.keys()
    assert not COMMANDS.keys() & NO_COMMAND.keys()


@pytest.mark.parametrize("operation", COMMANDS)
def test_the_command_of_an_operation_asks_for_it(
    known: Yard,
    command: Callable[..., Result],
    operations: dict[str, str],
    operation: str,
    tmp_path: Path,
) -> None:
    archive, file = tmp_path / "archive.tar", tmp_path / "file"
    archive.write_bytes(ARCHIVE)
    file.write_bytes(b"{}")
    if operation in ("refresh", "log_out"):
        over = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        login = Login("access", "refresh", over, "ada@default")
        Contexts().keep(Context("c", "http://yard", login))
    line = COMMANDS[operation].format(file=file, archive=archive)
    command(*line.split(), given="secret\n")
    path = operations[operation].replace("/yard/v1", "")
    # Of all that is named in a path only repositories hold slashes.
    pattern = re.sub(r"\{[^}]*\}", "[^?/]+", path.replace("{repository}", "[^?]+"))
    asked = [each.partition("?")[0] for each in known.asked]
    assert any(re.fullmatch(pattern, each) for each in asked), asked


OF_A_CONTAINER = (
    *("-e A=B", "-p 8000:80", "--gpus 1", "--gpu-model m", "--memory-mib 1"),
    *("--alias a", "--engine-name e", "--only-given-ports"),
    *("--cpus 1", "--node n", "--node-label a=b", "--node-group g", "-l a=b", "--shm-size 1g"),
    *(
        "--ulimit core=1",
        "--ipc container:c",
        "--entrypoint a",
        "-w /",
        "-u 1",
        "--tmpfs /t:1m",
        "-v /d",
        "--asset A=http://b/c",
        "--read-only",
    ),
    *("--add-host a:1.2.3.4", "--stop-signal SIGINT", "--stop-grace 1"),
    *(
        "--on-node-loss wait",
        "--priority 1",
        "--health-port 80",
        "--health-path /h",
        "--health-interval 1",
    ),
    *("--health-timeout 1", "--health-retries 1", "--health-start-period 1"),
    *("--health-protocol grpc", "--health-until-ready"),
)
OF_A_DEPLOYMENT = (
    *("--min 1", "--max 2", "--max-calls 3", "--idle-s 4", "--in-place", "--drain 5"),
    *("--rollout-timeout 60", "--annotation a=b", "--no-wait"),
)


@pytest.fixture
def said(known: Yard, command: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """The body that a command sends first."""

    def send(line: str) -> dict[str, Any]:
        before = len(known.bodies)
        command(*line.split())
        return dict(json.loads(next(body for body in known.bodies[before:] if body)))

    return send


@pytest.fixture(scope="module")
def members(document: dict[str, Any]) -> Callable[[str], set[str]]:
    return lambda shape: set(document["components"]["schemas"][shape]["properties"])


Said = Callable[[str], dict[str, Any]]
Members = Callable[[str], set[str]]


def test_everything_that_can_be_said_about_a_container_has_an_option(
    said: Said, members: Members
) -> None:
    options = " ".join(OF_A_CONTAINER)
    asked = said(f"containers run a --name n --restart no --no-wait {options} -- cmd")
    # `ipc` is implied by `ipc_with`, and chosen by the same option.
    assert asked.keys() | {"ipc"} == members("ContainerSpec")
    assert asked["health"].keys() == members("HealthCheck")
    assert said(f"containers exec {ID} -w / -u 1 -e A=B -- ls").keys() == members("ExecSpec")


def test_everything_that_can_be_said_about_an_image_has_an_option(
    said: Said, members: Members
) -> None:
    options = "--name n --platform linux/arm64 --secret s -l a=b --annotation a=b --no-wait"
    given = '--needs {"gpus":1} --defaults {"gpus":1}'
    assert said(f"images add a {options} {given}").keys() == members("ImageSpec")


def test_everything_that_can_be_said_about_a_build_has_an_option(
    said: Said, members: Members
) -> None:
    options = "--name n -f D --build-arg A=B --target t --secret s --node n --no-wait"
    asked = said(f"images build https://host/a.git#main {options}")
    asked |= said(f"images build /srv/a --on-node {options}")
    assert asked.keys() == members("BuildSpec")


def test_everything_that_can_be_said_about_a_deployment_has_an_option(
    said: Said, members: Members
) -> None:
    options = " ".join((*OF_A_CONTAINER, *OF_A_DEPLOYMENT))
    asked = said(f"deployments create d a {options} --target cpu=60 -- cmd")
    assert asked.keys() == members("DeploymentSpec")
    # The deployment chooses name and restart.
    kept = {"name", "restart"}
    assert asked["template"].keys() | {"ipc"} | kept == members("ReplicaSpec")
    edited = said(f"deployments edit {ID} --name n --image a {options} -- cmd")
    assert edited["template"] == asked["template"]
    # Its rule is edited by `deployments autoscale`.
    ruled = said(f"deployments autoscale {ID} --target cpu=60")
    assert edited.keys() | ruled.keys() == members("DeploymentEdit")
    for name in ("max_calls", "drain_s", "rollout_timeout_s", "annotations"):
        assert edited[name] == asked[name]

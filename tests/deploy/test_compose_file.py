"""What compose.yaml and the Dockerfiles promise, read without an engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import CHECKOUT, run

FILE = CHECKOUT / "compose.yaml"
DOCKERFILES = [CHECKOUT / "Dockerfile", CHECKOUT / "deploy" / "sample-model" / "Dockerfile"]
OWN = {"setup", "mongo-setup", "api", "worker", "haproxy", "gateway", "agent"}


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(FILE.read_text())


@pytest.mark.parametrize("more", [[], ["deploy/compose.gpu.yaml"]])
async def test_compose_accepts_the_file(more: list[str]) -> None:
    files = [part for name in ["compose.yaml", *more] for part in ("-f", name)]
    shown = yaml.safe_load(await run("docker-compose", *files, "config"))
    assert set(shown["services"]) == OWN | {"nats", "mongo", "registry"}


def test_nothing_obsolete_is_used(compose: Any) -> None:
    assert set(compose) <= {"services", "volumes", "x-product"}
    for service in compose["services"].values():
        assert not {"links", "container_name", "volumes_from", "extends"} & set(service)


def test_every_image_can_be_replaced(compose: Any) -> None:
    for service in compose["services"].values():
        assert re.fullmatch(r"\$\{MODELYARD_\w*IMAGE:-[\w./-]+:[\w.-]+\}", service["image"])


def test_every_service_starts_after_what_it_needs_is_well(compose: Any) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert service.get("healthcheck"), f"{name} decides nothing about its health"
        for needed, how in service.get("depends_on", {}).items():
            once = services[needed].get("restart") is None
            wanted = "service_completed_successfully" if once else "service_healthy"
            assert how == {"condition": wanted}


def test_whatever_keeps_running_is_checked(compose: Any) -> None:
    for name, service in compose["services"].items():
        if service.get("restart"):
            assert service["healthcheck"].get("test"), f"{name} may be stuck unnoticed"


def test_ports_are_published_on_loopback_only(compose: Any) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_no_secret_has_a_default(compose: Any) -> None:
    for variable, default in re.findall(r"\$\{(\w+):-([^}]*)\}", FILE.read_text()):
        if re.search("PASSWORD|KEY|TOKEN|SECRET", variable):
            assert default == "", variable


def test_only_the_agent_is_root_for_good(compose: Any) -> None:
    lasting = {name for name in OWN if compose["services"][name].get("restart")}
    root = {name for name in lasting if compose["services"][name].get("user") == "0:0"}
    assert root == {"agent"}


def test_every_volume_is_declared(compose: Any) -> None:
    used = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    }
    assert {name for name in used if not name.startswith((".", "$"))} == set(compose["volumes"])


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_runs_without_root_and_says_how_it_is(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.M)
    assert re.search(r"^HEALTHCHECK ", final, re.M)
    assert re.search(r"^EXPOSE \d+$", final, re.M)
    assert re.search(r"^LABEL org\.opencontainers\.image\.title=", final, re.M)
    assert "ARG BASE=python:" in text
    assert "--require-hashes" in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_an_image_copies_exists(dockerfile: Path) -> None:
    for source in re.findall(r"^COPY (?!--)(\S+) ", dockerfile.read_text(), re.M):
        assert (dockerfile.parent / source).exists(), source


def test_every_requirement_of_the_product_is_pinned() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    pinned = re.findall(r"^([\w.-]+)==\S+", (CHECKOUT / "requirements.txt").read_text(), re.M)
    wanted = {re.split(r"[\[<>=!~]", line)[0] for line in project["dependencies"]}
    assert {_canonical(name) for name in wanted} <= {_canonical(name) for name in pinned}


@pytest.mark.parametrize(
    "script", sorted((CHECKOUT / "deploy").glob("*/*.sh")), ids=lambda path: path.name
)
async def test_a_script_is_well_formed(script: Path, tmp_path: Path) -> None:
    await run("bash", "-n", script, cwd=tmp_path)
    sourced = not script.read_text().startswith("#!")
    assert sourced != bool(script.stat().st_mode & 0o111)


def _canonical(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()

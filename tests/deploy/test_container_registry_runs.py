"""What the folder says of the registry is true of one: Debian's program, set up as the image is."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
import yaml

from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import program
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.registries.locked_registry import HTPASSWD, PASSWORD, USER
from tests.support.sources import ROOT
from tests.support.systems.services import Services

FOLDER = ROOT / "deploy" / "container-registry"
POD = yaml.safe_load((FOLDER / "deployment.yaml").read_text())["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
ID = str(CONTAINER["securityContext"]["runAsUser"])
CONFIG = {
    "version": "0.1",
    "log": {"fields": {"service": "registry"}},
    "storage": {
        "cache": {"blobdescriptor": "inmemory"},
        "filesystem": {"rootdirectory": "/var/lib/registry"},
    },
    "http": {"addr": ":5000", "headers": {"X-Content-Type-Options": ["nosniff"]}},
    "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
}
"""The configuration in the image `registry:2`."""


class DescribedRegistry(RegistryPiece):
    """As the pod runs it: not root, with the variables of the manifest and those given."""

    def __init__(self, folder: Path, storage: Path, *, port: int) -> None:
        super().__init__(folder, port=port)
        self.storage = storage
        self.given: dict[str, str] = {}

    def prepare(self) -> None:
        (self.storage / "config.json").write_text(json.dumps(CONFIG))

    def command(self) -> Sequence[str]:
        setpriv = program("setpriv", remedy="install util-linux.")
        server = program("docker-registry", remedy="install docker-registry.")
        identity = ("--reuid", ID, "--regid", ID, "--clear-groups", "--no-new-privs")
        return [setpriv, *identity, server, "serve", str(self.storage / "config.json")]

    def environment(self) -> Mapping[str, str]:
        return {
            "REGISTRY_HTTP_ADDR": self.host,
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(self.storage / "data"),
            **{each["name"]: each["value"] for each in CONTAINER["env"]},
            **self.given,
        }

    async def ready(self) -> bool:
        return await probes.status("127.0.0.1", self.port, "/") == 200


@pytest.fixture
async def registry(services: Services, tmp_path: Path) -> AsyncIterator[DescribedRegistry]:
    with tempfile.TemporaryDirectory() as storage:
        Path(storage).chmod(0o755)
        (data := Path(storage, "data")).mkdir()
        # Done by the container that runs before.
        _, owner, _ = POD["initContainers"][0]["command"]
        user, group = map(int, owner.split(":"))
        os.chown(data, user, group)
        piece = DescribedRegistry(tmp_path, Path(storage), port=services.registry().port)
        yield piece
        await piece.stop()


async def test_it_keeps_and_deletes_images_without_being_root(registry: DescribedRegistry) -> None:
    await registry.start()
    digest = push(busybox_image(), registry.host, "team/model", "1")
    written = [path for path in (registry.storage / "data").rglob("*") if path.is_file()]
    assert {str(path.stat().st_uid) for path in written} == {ID}
    async with httpx.AsyncClient(base_url=f"http://{registry.host}", timeout=30) as http:
        assert (await http.get(CONTAINER["readinessProbe"]["httpGet"]["path"])).status_code == 200
        assert (await http.delete(f"/v2/team/model/manifests/{digest}")).status_code == 202


async def test_with_a_password_v2_asks_for_it_and_the_root_does_not(
    registry: DescribedRegistry,
) -> None:
    """So that probes can go on, as the README says."""
    users = registry.storage / "htpasswd"
    users.write_text(HTPASSWD)
    registry.given = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "registry",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
    }
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}" in readme for name in registry.given)
    await registry.start()
    async with httpx.AsyncClient(base_url=f"http://{registry.host}", timeout=30) as http:
        assert (await http.get("/v2/")).status_code == 401
        assert (await http.get("/v2/", auth=(USER, PASSWORD))).status_code == 200
        assert (await http.get("/")).status_code == 200

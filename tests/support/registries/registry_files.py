"""What lies in a test's registry, seen from behind: its files."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.registries.platform_registry import proof


class RegistryFiles:
    def __init__(self, host: str, folder: Path) -> None:
        self.host = host
        self._root = folder / "data/docker/registry/v2/repositories"

    def open_uploads(self, repository: str = "") -> list[Path]:
        """Uploads that could be continued; what the registry forgets to remove is not one."""
        return [path.parent for path in (self._root / repository).rglob("_uploads/*/startedat")]

    def repositories(self, prefix: str) -> list[str]:
        """Those with a manifest or a tag."""
        found = (self._root / prefix).rglob("_manifests")
        return sorted(str(path.parent.relative_to(self._root)) for path in found)

    def tags(self, repository: str) -> list[str]:
        where = f"http://{self.host}/v2/{repository}/tags/list"
        answer = httpx.get(where, headers=proof(repository))
        if answer.status_code == 404:
            return []
        return answer.raise_for_status().json()["tags"] or []

    def manifest(self, repository: str, target: str) -> httpx.Response:
        headers = proof(repository) | {
            "Accept": "application/vnd.docker.distribution.manifest.v2+json,"
            "application/vnd.oci.image.manifest.v1+json"
        }
        return httpx.get(f"http://{self.host}/v2/{repository}/manifests/{target}", headers=headers)

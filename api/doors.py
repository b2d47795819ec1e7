"""Doors: families of paths with a contract of their own, and so with errors of their own shape."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from api import problems
from api.problems import Failure

Renderer = Callable[[Failure, str], Response]
"""Makes the answer of a failure that happened under the given path."""


class Doors:
    """Which renderer speaks for which path. Paths of no door answer with problem details."""

    def __init__(self) -> None:
        self._renderers: dict[str, Renderer] = {}

    def register(self, prefix: str, renderer: Renderer) -> None:
        """`prefix` counts whole segments: `/api` covers `/api` and `/api/x`, not `/apis`."""
        self._renderers[prefix.rstrip("/")] = renderer

    def answer(self, failure: Failure, path: str) -> Response:
        return self._renderer(path)(failure, path)

    def _renderer(self, path: str) -> Renderer:
        """That of the longest prefix."""
        prefix = path.rstrip("/")
        while prefix:
            if prefix in self._renderers:
                return self._renderers[prefix]
            prefix = prefix.rpartition("/")[0]
        return problems.render

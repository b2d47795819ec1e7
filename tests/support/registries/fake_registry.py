"""A registry that speaks the OCI distribution protocol, as an ASGI application in memory."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

RUNNABLE: Mapping[str, Any] = {"Cmd": ["/bin/serve"], "ExposedPorts": {"8080/tcp": {}}}


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the registry met it, and its answer."""

    method: str
    path: str
    query: str
    headers: Headers
    status: int


@dataclass(slots=True)
class Basic:
    """Every request needs this user and password."""

    username: str
    password: str

    def challenge(self, scope: str) -> str:
        return 'Basic realm="fake"'

    def accepts(self, authorization: str | None) -> bool:
        pair = f"{self.username}:{self.password}".encode()
        return authorization == "Basic " + base64.b64encode(pair).decode()


@dataclass(slots=True)
class Bearer:
    """Every request needs a token from `realm`, which is `tokens`."""

    realm: str
    tokens: TokenService
    service: str = "fake.registry"

    def challenge(self, scope: str) -> str:
        return f'Bearer realm="{self.realm}",service="{self.service}",scope="{scope}"'

    def accepts(self, authorization: str | None) -> bool:
        return authorization in {f"Bearer {token}" for token in self.tokens.valid}


class TokenService:
    """Hands out tokens; with an account, only to who proves to be it."""

    def __init__(self, account: Basic | None = None, *, expires_in: int = 300) -> None:
        self.account = account
        self.expires_in = expires_in
        self.valid: set[str] = set()
        self.seen: list[Seen] = []
        self.intercept: Callable[[Request], Response | None] = lambda request: None

    def expire_all(self) -> None:
        self.valid.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = self.intercept(request) or self._answer(request)
        self.seen.append(_seen(request, response))
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if self.account and not self.account.accepts(request.headers.get("authorization")):
            return _error(401, "UNAUTHORIZED")
        token = f"token-{len(self.seen)}"
        self.valid.add(token)
        return JSONResponse({"token": token, "expires_in": self.expires_in})


@dataclass(slots=True)
class _Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class FakeRegistry:
    """`intercept` may answer a request in the registry's place; `pause` is awaited before."""

    def __init__(self, auth: Basic | Bearer | None = None) -> None:
        self.auth = auth
        self.seen: list[Seen] = []
        self.intercept: Callable[[Request], Response | None] = lambda request: None
        self.pause: Callable[[], Awaitable[object]] | None = None
        self._repositories: dict[str, _Repository] = {}

    def push(
        self,
        repository: str,
        tag: str | None,
        *,
        config: Mapping[str, Any] = RUNNABLE,
        layers: Iterable[bytes] = (b"layer",),
        architecture: str | None = "amd64",
        **document: Any,
    ) -> str:
        """An image of one platform; `document` goes into its configuration. Returns the digest."""
        stored = json.dumps(
            {"os": "linux", "architecture": architecture, "config": config} | document
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": self.blob(repository, stored, DOCKER_CONFIG),
            "layers": [self.blob(repository, layer, DOCKER_LAYER) for layer in layers],
        }
        return self.put(repository, tag, DOCKER_MANIFEST, json.dumps(manifest).encode())

    def push_index(self, repository: str, tag: str, *entries: tuple[str, Mapping[str, Any]]) -> str:
        """An index of (digest, platform)."""
        listed = [
            {"mediaType": DOCKER_MANIFEST, "digest": digest, "size": 1, "platform": platform}
            for digest, platform in entries
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return self.put(repository, tag, OCI_INDEX, json.dumps(document).encode())

    def put(self, repository: str, tag: str | None, media_type: str, body: bytes) -> str:
        """Any manifest, also a broken one."""
        digest = digest_of(body)
        kept = self._repositories.setdefault(repository, _Repository())
        kept.manifests[digest] = (media_type, body)
        if tag is not None:
            kept.tags[tag] = digest
        return digest

    def blob(self, repository: str, body: bytes, media_type: str) -> dict[str, Any]:
        """Store it; returns its descriptor."""
        digest = digest_of(body)
        self._repositories.setdefault(repository, _Repository()).blobs[digest] = body
        return {"mediaType": media_type, "digest": digest, "size": len(body)}

    def lose_blob(self, repository: str, digest: str) -> None:
        del self._repositories[repository].blobs[digest]

    def stored(self, path: str) -> bytes | None:
        """What lies at the path of a request for a manifest or blob."""
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        kept = self._repositories.get(repository, _Repository())
        if kind == "blobs":
            return kept.blobs.get(name)
        return kept.manifests.get(kept.tags.get(name, name), ("", None))[1]

    def asked(self, method: str, part: str) -> list[Seen]:
        """Requests with this method whose path has `part`."""
        return [seen for seen in self.seen if seen.method == method and part in seen.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if self.pause is not None:
            await self.pause()
        response = self.intercept(request) or self._guarded(request)
        self.seen.append(_seen(request, response))
        await response(scope, receive, send)

    def _guarded(self, request: Request) -> Response:
        proof = request.headers.get("authorization")
        if self.auth is not None and not self.auth.accepts(proof):
            scope = f"repository:{request.url.path.removeprefix('/v2/').rsplit('/', 2)[0]}:pull"
            challenge = {"WWW-Authenticate": self.auth.challenge(scope)}
            return _error(401, "UNAUTHORIZED", challenge)
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        path = request.url.path
        if path == "/v2/":
            return JSONResponse({})
        if path == "/v2/_catalog":
            return self._page(request, "repositories", sorted(self._repositories))
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        kept = self._repositories.get(repository)
        if kept is None:
            return _error(404, "NAME_UNKNOWN")
        if (kind, name) == ("tags", "list"):
            return self._page(request, "tags", sorted(kept.tags))
        return _manifest(kept, name, request) if kind == "manifests" else _blob(kept, name, request)

    def _page(self, request: Request, name: str, items: list[str]) -> Response:
        size = int(request.query_params.get("n", 100))
        last = request.query_params.get("last", "")
        page = [item for item in items if item > last][:size]
        headers = {}
        if page and page[-1] != items[-1]:
            headers["Link"] = f'<{request.url.path}?n={size}&last={page[-1]}>; rel="next"'
        return JSONResponse({name: page}, headers=headers)


def digest_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _manifest(kept: _Repository, name: str, request: Request) -> Response:
    digest = kept.tags.get(name, name)
    if digest not in kept.manifests:
        return _error(404, "MANIFEST_UNKNOWN")
    media_type, body = kept.manifests[digest]
    headers = {"Docker-Content-Digest": digest, "Etag": f'"{digest}"', "Content-Type": media_type}
    if request.headers.get("if-none-match") == f'"{digest}"':
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers)


def _blob(kept: _Repository, digest: str, request: Request) -> Response:
    if digest not in kept.blobs:
        return _error(404, "BLOB_UNKNOWN")
    body = kept.blobs[digest]
    media_type = "application/octet-stream"
    if request.headers.get("range") == "bytes=0-0":
        return Response(body[:1], 206, media_type=media_type)
    return Response(body, media_type=media_type)


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"errors": [{"code": code, "message": code.lower()}]}
    return JSONResponse(body, status, headers=dict(headers or {}))


def _seen(request: Request, response: Response) -> Seen:
    return Seen(
        request.method, request.url.path, request.url.query, request.headers, response.status_code
    )

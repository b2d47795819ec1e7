"""A network with one registry, and a client that knows only it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import GuardedResolver, Rules
from pipeline.adapters.registry.auth import RegistryScope
from pipeline.adapters.registry.client import RegistryClient
from pipeline.adapters.registry.contents import Place
from pipeline.oci import references
from pipeline.ports import Credentials, ResolvedImage
from tests.support.http.fake_network import FakeNetwork
from tests.support.registries.fake_registry import Basic, Bearer, FakeRegistry, TokenService

HOST = "registry.example"
AT = "8.8.8.1"
TOKENS = "auth.example"
STORAGE = "storage.example"
SECRET = Credentials(server=HOST, username="me", password="hunter2")
ACCOUNT = Basic("me", "hunter2")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A network with one registry at `registry.example`, and a client that knows only it."""

    def __init__(self, *, allow_local: bool = False, **options: float) -> None:
        self.network = FakeNetwork()
        self.registry = FakeRegistry()
        self.tokens = TokenService()
        self.clock = Clock()
        self.network.name(HOST, AT)
        self.network.listen(AT, 443, self.registry)
        self.network.name(TOKENS, "8.8.8.2")
        self.network.listen("8.8.8.2", 443, self.tokens)
        self.network.name(STORAGE, "8.8.8.3")
        names = GuardedResolver(
            self.network.resolve, Rules(allow_local=allow_local), clock=self.clock
        )
        self.client = RegistryClient(
            GuardedHttp(self.network, names),
            clock=self.clock,
            document_max_bytes=4096,
            **options,  # type: ignore[arg-type]
        )

    def demand_token(self, account: Basic | None = None, **options: int) -> None:
        self.tokens = TokenService(account, **options)
        self.network.listen("8.8.8.2", 443, self.tokens)
        self.registry.auth = Bearer(f"https://{TOKENS}/token", self.tokens)

    async def resolve(
        self,
        reference: str = f"{HOST}/team/model:1",
        *,
        platform: str | None = None,
        credentials: Credentials | None = None,
    ) -> ResolvedImage:
        return await self.client.resolve(
            references.parse(reference), platform=platform, credentials=credentials
        )


async def has_blob(client: RegistryClient, registry: str, repository: str, digest: str) -> bool:
    """What the client finds out anonymously."""
    scope = RegistryScope(registry, f"repository:{repository}:pull", None)
    return await client._contents.has_blob(Place(scope, repository), digest)


def redirect_blobs(world: World, to: Callable[[str], str], status: int = 307) -> None:
    """Every blob is elsewhere: at what `to` makes of its path."""
    world.registry.intercept = lambda request: (
        Response(status_code=status, headers={"Location": to(request.url.path)})
        if "/blobs/" in request.url.path
        else None
    )

"""Operations: access.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from modelyard.client.asynchronous import AsyncSender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.types.access import (
        IssuedView,
        LoginRequest,
        LogoutRequest,
        Organisation,
        OrganisationEdit,
        OrganisationSpec,
        Principal,
        RefreshRequest,
        SessionView,
        Token,
        TokenRequest,
        User,
        UserChange,
        UserRequest,
    )


class AsyncAccess(AsyncSender):
    """Access."""

    async def create_token(
        self, body: TokenRequest, *, idempotency_key: str | None = None
    ) -> IssuedView:
        """Make an API key or a long-lived JWT. Its text is in this answer and nowhere else."""
        found: IssuedView = await self._json(
            Call("POST", "/yard/v1/tokens", headers={"Idempotency-Key": idempotency_key}, body=body)
        )
        return found

    def list_tokens(self, *, limit: int | None = None) -> AsyncIterator[Token]:
        """Tokens that were handed out and not revoked, newest first, without their texts."""
        return self._pages(Call("GET", "/yard/v1/tokens"), limit)

    async def get_token(self, uuid: str) -> Token:
        """One of the listed tokens, without its text."""
        found: Token = await self._json(Call("GET", "/yard/v1/tokens/{}", (uuid,)))
        return found

    async def revoke_token(self, uuid: str) -> None:
        """Make a token useless: here at once, in other processes within seconds. Can be
        repeated."""
        await self._nothing(Call("DELETE", "/yard/v1/tokens/{}", (uuid,)))

    async def log_in(self, body: LoginRequest) -> SessionView:
        """Tokens for a user name and a password. Failures are slowed per account and per
        address."""
        found: SessionView = await self._json(Call("POST", "/yard/v1/login", body=body))
        return found

    async def refresh(self, body: RefreshRequest) -> SessionView:
        """A new access token, with the user's present role. The refresh token stays valid."""
        found: SessionView = await self._json(Call("POST", "/yard/v1/refresh", body=body))
        return found

    async def log_out(self, body: LogoutRequest) -> None:
        """End a session: none of its tokens is good any more."""
        await self._nothing(Call("POST", "/yard/v1/logout", body=body))

    async def show_caller(self) -> Principal:
        """As whom the token speaks, and what it may do. Clients need not offer anything else."""
        found: Principal = await self._json(Call("GET", "/yard/v1/me"))
        return found

    async def create_organisation(
        self, body: OrganisationSpec, *, idempotency_key: str | None = None
    ) -> Organisation:
        """Make an organisation. Its slug names it for ever, also after its deletion."""
        found: Organisation = await self._json(
            Call(
                "POST",
                "/yard/v1/organisations",
                headers={"Idempotency-Key": idempotency_key},
                body=body,
            )
        )
        return found

    def list_organisations(self, *, limit: int | None = None) -> AsyncIterator[Organisation]:
        """All of them for administrators of the platform, newest first; for others their own."""
        return self._pages(Call("GET", "/yard/v1/organisations"), limit)

    async def get_organisation(self, organisation: str) -> Organisation:
        """One organisation, by its id or its slug."""
        found: Organisation = await self._json(
            Call("GET", "/yard/v1/organisations/{}", (organisation,))
        )
        return found

    async def edit_organisation(
        self, organisation: str, body: OrganisationEdit, *, if_match: str | None = None
    ) -> Organisation:
        """Change its name or its quotas; what was accepted before goes on."""
        found: Organisation = await self._json(
            Call(
                "PATCH",
                "/yard/v1/organisations/{}",
                (organisation,),
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

    async def delete_organisation(
        self, organisation: str, *, if_match: str | None = None
    ) -> Organisation:
        """Delete one that holds nothing any more; its users and tokens are good for nothing
        then."""
        found: Organisation = await self._json(
            Call(
                "DELETE",
                "/yard/v1/organisations/{}",
                (organisation,),
                headers={"if-match": if_match},
            )
        )
        return found

    async def create_user(
        self, body: UserRequest, *, org: str | None = None, idempotency_key: str | None = None
    ) -> User:
        """Make somebody who may log in. A repeat with the same key does not compare the
        password."""
        found: User = await self._json(
            Call(
                "POST",
                "/yard/v1/users",
                query={"org": org},
                headers={"Idempotency-Key": idempotency_key},
                body=body,
            )
        )
        return found

    def list_users(
        self, *, org: str | None = None, limit: int | None = None
    ) -> AsyncIterator[User]:
        """Users of one organisation, newest first."""
        return self._pages(Call("GET", "/yard/v1/users", query={"org": org}), limit)

    async def get_user(self, user: str, *, org: str | None = None) -> User:
        """One user, by id or name."""
        found: User = await self._json(
            Call("GET", "/yard/v1/users/{}", (user,), query={"org": org})
        )
        return found

    async def edit_user(
        self, user: str, body: UserChange, *, org: str | None = None, if_match: str | None = None
    ) -> User:
        """Disable or enable a user, give another role or password."""
        found: User = await self._json(
            Call(
                "PATCH",
                "/yard/v1/users/{}",
                (user,),
                query={"org": org},
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

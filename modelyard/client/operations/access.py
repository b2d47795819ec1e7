"""Operations: access.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelyard.client.blocking import Sender
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


class Access(Sender):
    """Access."""

    def create_token(self, body: TokenRequest, *, idempotency_key: str | None = None) -> IssuedView:
        """Make an API key or a long-lived JWT. Its text is in this answer and nowhere else."""
        found: IssuedView = self._json(
            Call("POST", "/yard/v1/tokens", headers={"Idempotency-Key": idempotency_key}, body=body)
        )
        return found

    def list_tokens(self, *, limit: int | None = None) -> Iterator[Token]:
        """Tokens that were handed out and not revoked, newest first, without their texts."""
        return self._pages(Call("GET", "/yard/v1/tokens"), limit)

    def get_token(self, uuid: str) -> Token:
        """One of the listed tokens, without its text."""
        found: Token = self._json(Call("GET", "/yard/v1/tokens/{}", (uuid,)))
        return found

    def revoke_token(self, uuid: str) -> None:
        """Make a token useless: here at once, in other processes within seconds. Can be
        repeated."""
        self._nothing(Call("DELETE", "/yard/v1/tokens/{}", (uuid,)))

    def log_in(self, body: LoginRequest) -> SessionView:
        """Tokens for a user name and a password. Failures are slowed per account and per
        address."""
        found: SessionView = self._json(Call("POST", "/yard/v1/login", body=body))
        return found

    def refresh(self, body: RefreshRequest) -> SessionView:
        """A new access token, with the user's present role. The refresh token stays valid."""
        found: SessionView = self._json(Call("POST", "/yard/v1/refresh", body=body))
        return found

    def log_out(self, body: LogoutRequest) -> None:
        """End a session: none of its tokens is good any more."""
        self._nothing(Call("POST", "/yard/v1/logout", body=body))

    def show_caller(self) -> Principal:
        """As whom the token speaks, and what it may do. Clients need not offer anything else."""
        found: Principal = self._json(Call("GET", "/yard/v1/me"))
        return found

    def create_organisation(
        self, body: OrganisationSpec, *, idempotency_key: str | None = None
    ) -> Organisation:
        """Make an organisation. Its slug names it for ever, also after its deletion."""
        found: Organisation = self._json(
            Call(
                "POST",
                "/yard/v1/organisations",
                headers={"Idempotency-Key": idempotency_key},
                body=body,
            )
        )
        return found

    def list_organisations(self, *, limit: int | None = None) -> Iterator[Organisation]:
        """All of them for administrators of the platform, newest first; for others their own."""
        return self._pages(Call("GET", "/yard/v1/organisations"), limit)

    def get_organisation(self, organisation: str) -> Organisation:
        """One organisation, by its id or its slug."""
        found: Organisation = self._json(Call("GET", "/yard/v1/organisations/{}", (organisation,)))
        return found

    def edit_organisation(
        self, organisation: str, body: OrganisationEdit, *, if_match: str | None = None
    ) -> Organisation:
        """Change its name or its quotas; what was accepted before goes on."""
        found: Organisation = self._json(
            Call(
                "PATCH",
                "/yard/v1/organisations/{}",
                (organisation,),
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

    def delete_organisation(
        self, organisation: str, *, if_match: str | None = None
    ) -> Organisation:
        """Delete one that holds nothing any more; its users and tokens are good for nothing
        then."""
        found: Organisation = self._json(
            Call(
                "DELETE",
                "/yard/v1/organisations/{}",
                (organisation,),
                headers={"if-match": if_match},
            )
        )
        return found

    def create_user(
        self, body: UserRequest, *, org: str | None = None, idempotency_key: str | None = None
    ) -> User:
        """Make somebody who may log in. A repeat with the same key does not compare the
        password."""
        found: User = self._json(
            Call(
                "POST",
                "/yard/v1/users",
                query={"org": org},
                headers={"Idempotency-Key": idempotency_key},
                body=body,
            )
        )
        return found

    def list_users(self, *, org: str | None = None, limit: int | None = None) -> Iterator[User]:
        """Users of one organisation, newest first."""
        return self._pages(Call("GET", "/yard/v1/users", query={"org": org}), limit)

    def get_user(self, user: str, *, org: str | None = None) -> User:
        """One user, by id or name."""
        found: User = self._json(Call("GET", "/yard/v1/users/{}", (user,), query={"org": org}))
        return found

    def edit_user(
        self, user: str, body: UserChange, *, org: str | None = None, if_match: str | None = None
    ) -> User:
        """Disable or enable a user, give another role or password."""
        found: User = self._json(
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

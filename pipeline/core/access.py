"""Who is calling: the one place that turns a header into a principal."""

from __future__ import annotations

from pipeline.adapters.store import Store
from pipeline.core import records
from pipeline.core.accounts import Accounts
from pipeline.core.api_keys import ApiKeys
from pipeline.core.sessions import Sessions
from pipeline.core.standing import Standing
from pipeline.core.tokens import Tokens
from pipeline.errors import Unauthenticated
from pipeline.rules import roles
from pipeline.rules.passwords import Passwords
from pipeline.rules.tokens import Claims, Signer, TokenKind
from pipeline.settings import Settings
from schemas.access import Principal, Role, User


class Access:
    """`accounts` are the users, `sessions` their logins, `tokens` what they asked for.

    The calls that every door needs are offered here too.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: records.Clock,
        passwords: Passwords | None = None,
    ) -> None:
        self._settings = settings
        self._signer = signer = Signer(settings.signing_key.get_secret_value())
        standing = Standing(store, clock)
        self.accounts = Accounts(store, standing, passwords or Passwords(), clock)
        self._keys = ApiKeys(store, standing, clock)
        self.tokens = Tokens(store, standing, self._keys, signer, clock)
        self.sessions = Sessions(
            store, self.accounts, self.tokens, standing, signer, settings, clock
        )
        self.login = self.sessions.login
        self.refresh = self.sessions.refresh
        self.logout = self.sessions.logout
        self.issue = self.tokens.issue
        self.list = self.tokens.list
        self.token = self.tokens.get
        self.revoke = self.tokens.revoke

    async def bootstrap(self) -> User:
        """The administrator of the installation's own organisation. Idempotent.

        Raises Misconfigured when there is none and no password is set (there is no default one),
        and when the signing key is missing.
        """
        self._signer.require_key()
        settings = self._settings
        password = settings.admin_password.get_secret_value()
        return await self.accounts.found(settings.org_id, settings.admin_user, password)

    async def verify(self, text: str) -> Claims:
        """What an access or refresh token says. Raises Unauthenticated."""
        return await self.sessions.read(text, None)

    async def authenticate(self, header: str | None) -> Principal:
        """From `Bearer <access token or API key>` or `ApiKey <key>`.

        Raises Unauthenticated; `reason` is `missing` when the header proves nothing at all.
        """
        scheme, _, text = (header or "").strip().partition(" ")
        text = text.strip()
        if scheme.lower() not in ("bearer", "apikey") or not text:
            raise Unauthenticated("Send a token: Authorization: Bearer <token>.", reason="missing")
        token = await self._keys.read(text)
        if token is not None:
            return self._principal(f"token:{token.uuid}", token.org, token.name, token.role)
        if scheme.lower() != "bearer":
            raise Unauthenticated("This is not an API key.", reason="invalid")
        claims = await self.sessions.read(text, TokenKind.ACCESS)
        return self._principal(claims.subject, claims.org, claims.name, claims.role)

    def _principal(self, id: str, org: str, name: str, role: Role) -> Principal:
        own = org == self._settings.org_id
        held = roles.permissions([role], own=own)
        return Principal(id=id, org=org, name=name, roles=frozenset({role}), permissions=held)

"""Who is calling: the one place that turns a header into a principal."""

from __future__ import annotations

from pipeline.access import roles
from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.access.passwords import Passwords
from pipeline.access.sessions import Sessions
from pipeline.access.tokens import ApiKeys, RevocationCache, Tokens
from pipeline.access.users import Users
from pipeline.errors import Unauthenticated
from pipeline.records.kernel import Records
from pipeline.settings import Settings
from pipeline.topology import EventSubject
from schemas.access import Principal, Token, User
from schemas.organisation import Organisation


class Access:
    """`users`, the `sessions` of their logins, and the `tokens` that they asked for."""

    def __init__(
        self, records: Records, settings: Settings, passwords: Passwords | None = None
    ) -> None:
        self._settings = settings
        self._signer = Signer(settings.signing_key.get_secret_value())
        revocations = RevocationCache(records.store, records.clock)
        self._revocations = revocations
        self._keys = ApiKeys(records.store, revocations, records.clock)
        self.users = Users(records, revocations, passwords or Passwords())
        self.tokens = Tokens(records, revocations, self._keys, self._signer)
        self.sessions = Sessions(
            records, self.users, self.tokens, revocations, self._signer, settings
        )

    async def bootstrap(self) -> User:
        """The administrator of the installation's own organisation. Idempotent.

        Raises Misconfigured when there is none and no password is set (there is no default one),
        and when the signing key is missing.
        """
        self._signer.require_key()
        await self.sessions.windows.prepare()
        settings = self._settings
        password = settings.admin_password.get_secret_value()
        return await self.users.found(settings.org, settings.admin_user, password)

    def heard(self, about: EventSubject) -> None:
        """Notice with the next request what another process changed."""
        match about.resource:
            case Token.resource:
                self._keys.forget(about.id)
                self._revocations.forget(about.org)
            case User.resource:
                self._revocations.forget(about.org)
            case Organisation.resource:
                self._revocations.forget_all()

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
            return self._principal(f"token:{token.uuid}", token)
        if scheme.lower() != "bearer":
            raise Unauthenticated("This is not an API key.", reason="invalid")
        claims = await self.sessions.read(text, TokenKind.ACCESS)
        return self._principal(claims.subject, claims)

    def _principal(self, id: str, proof: Token | Claims) -> Principal:
        return Principal(
            id=id,
            org=proof.org,
            name=proof.name,
            roles=frozenset({proof.role}),
            permissions=roles.permissions([proof.role], own=proof.org == self._settings.org),
            user=proof.user,
        )

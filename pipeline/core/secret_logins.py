"""Tries new registry credentials once and notes what came of it, for people to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.core import records
from pipeline.core.registry_probes import Prober
from pipeline.core.secret_holds import LIVING
from pipeline.errors import InvalidInput, Misconfigured
from pipeline.ports import Credentials
from schemas.image import Finding, Severity
from schemas.registry import ErrorKind
from schemas.secret import Secret

if TYPE_CHECKING:
    from pipeline.adapters.registry_health import RegistryHealth
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.secrets import Secrets

TESTER: Final = "worker:secrets"
_NO_TLS: Final = frozenset({ErrorKind.TLS, ErrorKind.REFUSED, ErrorKind.PROTOCOL})


class SecretLogins:
    """A secret is kept whatever its server says: the server may only be away."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        secrets: Secrets,
        prober: Prober,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._secrets = secrets
        self._prober = prober
        self._clock = clock

    async def test(self, org: str, uuid: str) -> None:
        """Idempotent: what was tried already, or is gone, is left alone. Raises LostRace."""
        secret = await self._store.find_one(Secret, org=org, where={"_id": uuid, **LIVING})
        if secret is None or secret.login is not None:
            return
        finding = await self._try(secret)
        at, revision = self._clock(), secret.revision + 1
        facts = {"name": secret.name, "code": finding.code, "message": finding.message}
        message = records.event(secret, "checked", at=at, actor=TESTER, revision=revision, **facts)
        secret = await self._store.change(
            secret, {"login": finding}, at=at, messages=[message], guard=LIVING
        )
        await self._outbox.send(secret)

    async def _try(self, secret: Secret) -> Finding:
        try:
            credentials = await self._secrets.credentials_for(
                secret.org, secret.uuid, secret.server
            )
            assert credentials is not None, "they are for this server"
            return _finding(secret.server, await self._ask(credentials))
        except Misconfigured:
            return _warning("login_untried", "No configured key opens this secret: enter it anew.")
        except InvalidInput:
            return _warning("login_untried", f"{secret.server} is no address of a registry.")

    async def _ask(self, credentials: Credentials) -> RegistryHealth:
        """Over TLS, and in clear text only where nobody speaks TLS and it does not leave the
        house."""
        server = credentials.server
        health = await self._prober.ping(f"https://{server}", credentials=credentials)
        if not health.reachable and health.error_kind in _NO_TLS:
            return await self._prober.ping(f"http://{server}", credentials=credentials)
        return health


def _finding(server: str, health: RegistryHealth) -> Finding:
    if health.credentials_ok:
        return Finding(
            code="login_accepted",
            severity=Severity.INFO,
            message=f"{server} accepts these credentials.",
        )
    if health.credentials_ok is False:
        return _warning(
            "login_refused",
            f"{server} refuses these credentials: delete the secret and enter it anew.",
        )
    if not health.reachable:
        return _warning("login_untried", f"{server} could not be asked: {health.reason}")
    if health.oci and not health.auth_required:
        return Finding(
            code="login_not_needed",
            severity=Severity.INFO,
            message=f"{server} lets everybody in without credentials.",
        )
    return _warning("login_untried", f"{server} does not answer as a registry does.")


def _warning(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.WARNING, message=message)

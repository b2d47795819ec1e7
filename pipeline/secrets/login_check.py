"""Tries new registry credentials once and notes what came of it, for people to see."""

from __future__ import annotations

from typing import Final

from pipeline.adapters.registry.client import RegistryClient
from pipeline.errors import InvalidInput, Misconfigured
from pipeline.ports import Credentials
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from pipeline.secrets.service import LIVING, Secrets
from schemas.image import Finding, Severity
from schemas.registries.registry import ErrorKind, PingResult
from schemas.registries.secret import LOGIN_REFUSED, Secret

TESTER: Final = "worker:secrets"
_NO_TLS: Final = frozenset({ErrorKind.TLS, ErrorKind.REFUSED, ErrorKind.PROTOCOL})


class SecretLogins:
    """A secret is kept whatever its server says: the server may only be away."""

    def __init__(self, records: Records, secrets: Secrets, client: RegistryClient) -> None:
        self._records = records
        self._secrets = secrets
        self._client = client

    async def test(self, org: str, uuid: str) -> None:
        """Idempotent: what was tried already, or is gone, is left alone. Raises LostRace."""
        secret = await self._records.store.find_one(Secret, org=org, where={"_id": uuid, **LIVING})
        if secret is None or secret.login is not None:
            return
        finding = await self._try(secret)
        checked = event("checked", code=finding.code, message=finding.message)
        change = Change({"login": finding}, send=[checked], guard=LIVING)
        await self._records.commit(secret, change, actor=TESTER)

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

    async def _ask(self, credentials: Credentials) -> PingResult:
        """Over TLS, and in clear text only where nobody speaks TLS and it does not leave the
        house."""
        server = credentials.server
        health = await self._client.ping(f"https://{server}", credentials=credentials)
        if not health.reachable and health.error_kind in _NO_TLS:
            return await self._client.ping(f"http://{server}", credentials=credentials)
        return health


def _finding(server: str, health: PingResult) -> Finding:
    if health.credentials_ok:
        return _info("login_accepted", f"{server} accepts these credentials.")
    if health.credentials_ok is False:
        return _warning(
            LOGIN_REFUSED,
            f"{server} refuses these credentials: delete the secret and enter it anew.",
        )
    if not health.reachable:
        return _warning("login_untried", f"{server} could not be asked: {health.reason}")
    if health.oci and not health.auth_required:
        return _info("login_not_needed", f"{server} lets everybody in without credentials.")
    return _warning("login_untried", f"{server} does not answer as a registry does.")


def _info(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.INFO, message=message)


def _warning(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.WARNING, message=message)

"""The stages that validate the image of an entry: an Image is brought for it, as anybody brings
one, and what becomes of that is compared with the entry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.access.roles import acting_for
from pipeline.adapters.store.indexes import SOME_TIME
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.catalog.comparison import compare
from pipeline.catalog.requirements import gate_of
from pipeline.catalog.rows import CatalogRows
from pipeline.catalog.service import Catalog
from pipeline.errors import Conflict, InvalidInput, InvalidReference, NotFound
from pipeline.images.service import Images
from pipeline.oci import references
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.records.sweeping import one_by_one
from pipeline.secrets import types as secret_types
from pipeline.secrets.service import Secrets
from schemas.access import Principal
from schemas.image import Image, ImageSpec, Severity
from schemas.registries.catalog import CatalogEntry, CatalogValidation, ValidationStatus
from schemas.states import ImageStatus

log = logging.getLogger(__name__)

VALIDATOR: Final = "worker:catalog"
SWEPT_AT_ONCE: Final = 100
BACKOFF_S: Final = 30
BACKOFF_MAX_S: Final = 3600
UNREACHABLE: Final = "unreachable"
_CODES: Final[Mapping[str, str]] = {
    "manifest_not_found": "not_found",
    "registry_denied": "denied",
    **dict.fromkeys(
        ("registry_unavailable", "registry_protocol_error", "address_refused", "registry_error"),
        UNREACHABLE,
    ),
}
"""What the core calls a failure → what the catalogue calls it. Others keep their names."""


class EntryValidation:
    """Safe to run twice, and in several workers at once."""

    def __init__(
        self,
        records: Records,
        catalog: Catalog,
        images: Images,
        secrets: Secrets,
        *,
        stuck_after_s: float,
    ) -> None:
        self._records = records
        self._store = records.store
        self._catalog = catalog
        self._rows: CatalogRows = catalog.rows
        self._images = images
        self._secrets = secrets
        self._stuck_after = timedelta(seconds=stuck_after_s)

    async def validate(self, org: str, pk: str, *, edition: int | None) -> None:
        """Have the image of an entry proved, unless the order is about an older edition. Whoever
        names none asks for it again."""
        entry = await self._find(org, pk)
        if entry is None or edition not in (None, entry.edition):
            return
        if edition is not None and _is_settled(entry):
            return
        refusal = _refusal(entry)
        if refusal is not None:
            await self._settle(entry, _failed(*refusal))
            return
        try:
            image = await self._submit(entry, again=edition is None)
        except InvalidInput as error:
            await self._settle(entry, _failed("denied", error.message))
            return
        entry = await self._begin(entry, image)
        if entry.image == image.uuid and image.status in _ENDS:
            await self.settle(org, pk, image.uuid)

    async def settle(self, org: str, pk: str, uuid: str) -> None:
        """Record what became of the Image of an entry. Idempotent; one that is not the entry's any
        more says nothing."""
        entry = await self._find(org, pk)
        image = await self._store.find_by_id(Image, uuid, org=org)
        if entry is None or image is None or entry.image != uuid or image.status not in _ENDS:
            return
        if image.status is ImageStatus.READY:
            gate = gate_of([entry], await self._rows.snapshot())
            found = [*image.findings, *compare(gate, image)]
            outcome = CatalogValidation(
                status=ValidationStatus.READY, digest=image.digest, findings=found
            )
        else:
            outcome = _failed(*_reason(image)).model_copy(update={"findings": image.findings})
        await self._settle(entry, outcome)

    async def forget(self, org: str, image: str | None, secret: str | None) -> None:
        """Of an entry that is gone, or of its image before: what nobody uses is deleted."""
        caller = acting_for(org, VALIDATOR)
        if image is not None:
            try:
                await self._images.delete(caller, image)
            except NotFound:
                log.info("image %s of the catalogue is gone already", image)
            except Conflict as error:
                log.info("image %s of the catalogue stays: %s", image, error.message)
                return
        if secret is not None:
            await self._secrets.discard(caller, secret)

    async def sweep(self) -> None:
        """Ask again for what stands still, and for what could not be reached. Safe to run in
        several workers at once."""
        now = self._records.clock()
        waiting = [ValidationStatus.PENDING.value, ValidationStatus.VALIDATING.value]
        where = {
            "deleted": False,
            "$or": [
                {
                    "validation.status": {"$in": waiting},
                    "updated_at": {"$lt": now - self._stuck_after},
                },
                {"retry_at": {"$gt": SOME_TIME, "$lt": now}},
            ],
        }
        found = await self._store.find(
            CatalogEntry, org=EVERY_ORG, where=where, sort=(), limit=SWEPT_AT_ONCE
        )
        await one_by_one(found, self._ask_again)

    async def _ask_again(self, entry: CatalogEntry) -> None:
        if entry.retry_at is None:
            again = command("validate", edition=entry.edition)
            await self._records.remind(entry, again)
            return

        def decide(entry: CatalogEntry, at: datetime) -> Change | None:
            if entry.retry_at is None or entry.retry_at > at or entry.deleted:
                return None
            pending = _marked(entry.validation, ValidationStatus.PENDING)
            values = {"retry_at": None, "validation": pending}
            return Change(values, send=[command("validate", edition=entry.edition)])

        await self._records.amend(entry, decide, actor=VALIDATOR)

    async def _submit(self, entry: CatalogEntry, *, again: bool) -> Image:
        """The Image of this edition of the entry, and of this attempt at it. Raises InvalidInput
        for credentials that cannot be kept."""
        caller = acting_for(entry.org, VALIDATOR)
        attempt = f"{entry.pk}.{entry.edition}.{entry.attempts}"
        if again:
            attempt += f".{entry.revision}"
        secret = await self._secret(caller, entry, attempt)
        spec = ImageSpec(reference=entry.url, secret=secret)
        return await self._images.submit(caller, spec, key=f"catalog.{attempt}", catalog=entry.pk)

    async def _secret(self, caller: Principal, entry: CatalogEntry, attempt: str) -> str | None:
        """The credentials of the entry as a secret for its own registry; None without both."""
        password = self._catalog.password_of(entry)
        if entry.registry_username is None or password is None:
            return None
        server, _ = _registry(entry.registry_url)
        data = {"server": server, "username": entry.registry_username, "password": password}
        made = await self._secrets.create(
            caller,
            # Nobody's own secret is called so.
            name=f"catalog-{id_for(entry.org, 'catalog-secret', attempt)}",
            secret_type="registry",
            data=data,
            is_listed=False,
            key=f"catalog.{attempt}",
        )
        return made.uuid

    async def _begin(self, entry: CatalogEntry, image: Image) -> CatalogEntry:
        """Note which Image it is; the one before it is forgotten where nobody uses it."""
        edition = entry.edition

        def decide(entry: CatalogEntry, at: datetime) -> Change | None:
            if entry.edition != edition or entry.deleted or entry.image == image.uuid:
                return None
            send = []
            if entry.image is not None:
                send.append(command("forget", image=entry.image, secret=entry.secret))
            validating = _marked(entry.validation, ValidationStatus.VALIDATING)
            own = image.secret if image.secret and image.catalog == entry.pk else None
            values = {"image": image.uuid, "secret": own, "validation": validating}
            return Change(values, send=send)

        with suppress(NotFound):
            entry = await self._records.amend(entry, decide, actor=VALIDATOR)
        return entry

    async def _settle(self, entry: CatalogEntry, outcome: CatalogValidation) -> None:
        edition, image = entry.edition, entry.image

        def decide(entry: CatalogEntry, at: datetime) -> Change | None:
            if entry.edition != edition or entry.image != image or entry.deleted:
                return None
            if _is_settled(entry) and entry.validation.status is outcome.status:
                return None
            known = outcome.model_copy(update={"checked_at": at, "edition": edition})
            is_away = outcome.code == UNREACHABLE
            attempts = entry.attempts + 1 if is_away else entry.attempts
            wait_s = min(BACKOFF_S * 2 ** min(attempts - 1, 16), BACKOFF_MAX_S)
            values: dict[str, Any] = {
                "validation": known,
                "attempts": attempts,
                "retry_at": at + timedelta(seconds=wait_s) if is_away else None,
            }
            facts = known.model_dump(mode="json", include={"status", "code", "digest", "edition"})
            return Change(values, send=[event("validated", **facts)])

        with suppress(NotFound):
            await self._records.amend(entry, decide, actor=VALIDATOR)

    async def _find(self, org: str, pk: str) -> CatalogEntry | None:
        entry = await self._store.find_by_id(CatalogEntry, pk, org=org)
        return None if entry is None or entry.deleted else entry


_ENDS: Final = frozenset({ImageStatus.READY, ImageStatus.FAILED, ImageStatus.DELETED})


def _is_settled(entry: CatalogEntry) -> bool:
    """Of this very edition."""
    ends = (ValidationStatus.READY, ValidationStatus.FAILED)
    return entry.validation.edition == entry.edition and entry.validation.status in ends


def _marked(validation: CatalogValidation, status: ValidationStatus) -> CatalogValidation:
    return validation.model_copy(update={"status": status})


def _failed(code: str, detail: str) -> CatalogValidation:
    return CatalogValidation(status=ValidationStatus.FAILED, code=code, detail=detail)


def _reason(image: Image) -> tuple[str, str]:
    errors = [each for each in image.findings if each.severity is Severity.ERROR]
    code = errors[0].code if errors else "not_found"
    return _CODES.get(code, code), image.reason or "The image was deleted meanwhile."


def _refusal(entry: CatalogEntry) -> tuple[str, str] | None:
    """Code and detail of what is wrong without that anybody is asked."""
    try:
        reference = references.parse(entry.url)
    except InvalidReference as error:
        return "invalid_reference", error.message
    try:
        host, path = _registry(entry.registry_url)
    except InvalidReference as error:
        return "registry_mismatch", f"registry_url names no registry: {error.message}"
    is_below = not path or f"{reference.repository}/".startswith(f"{path}/")
    if reference.registry != host or not is_below:
        where = f"{host}/{path}" if path else host
        return "registry_mismatch", f"{reference} is not an image of the registry {where}."
    return None


def _registry(url: str) -> tuple[str, str]:
    """`host[:port]`, and the path below which its images lie. Raises InvalidReference."""
    plain = url.strip().removeprefix("https://").removeprefix("http://").rstrip("/")
    host, _, path = plain.partition("/")
    if path in ("v1", "v2"):
        path = ""
    return secret_types.registry_server(host), path

"""Files that a sender left out of its archive because the registry has them.

The archive then holds `modelyard-present.json`: path → digest. Nothing of it is believed: the
registry says what is there, and what it holds is looked into like what was sent.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

from pipeline.core.ingest_digests import Digests
from pipeline.core.intake import Intake
from pipeline.errors import ImageIncomplete, InvalidReference
from pipeline.rules import archives, compression, references
from pipeline.rules.archive_files import Files, Stored
from pipeline.rules.compression import Compression
from pipeline.rules.expansion import Expansion

if TYPE_CHECKING:
    from pipeline.adapters.registry_push import Pushing

DECLARATION: Final = "modelyard-present.json"
DECLARED_MAX: Final = 1024


async def add(pushing: Pushing, intake: Intake, expansion: Expansion, threads: Executor) -> None:
    """Complete `intake.files` by what its declaration names. Raises ImageIncomplete."""
    for path, digest in _declared(intake.files).items():
        if path in intake.files.stored or path in intake.files.links:
            continue
        size = await pushing.size_of(digest)
        if size is None:
            raise ImageIncomplete(
                f"The archive leaves out {digest}, which is not here any more: send it whole."
            )
        kind = compression.sniff(await pushing.head_of(digest, compression.SNIFFED))
        diff_id: str | None = digest
        if kind is not Compression.NONE:
            diff_id = await _opened(pushing, digest, Digests(kind, expansion, threads))
        intake.files.stored[path] = Stored(digest, size, kind, diff_id)


def _declared(files: Files) -> dict[str, str]:
    body = files.document(DECLARATION)
    if body is None:
        return {}
    declared = archives.read_json(body, DECLARATION)
    if not isinstance(declared, dict) or len(declared) > DECLARED_MAX:
        raise ImageIncomplete(f"{DECLARATION} is no object of at most {DECLARED_MAX} digests.")
    return {path: _digest(digest) for path, digest in declared.items()}


def _digest(text: object) -> str:
    try:
        return references.require_digest(str(text))
    except InvalidReference as error:
        raise ImageIncomplete(f"{DECLARATION} is broken: {error.message}") from None


async def _opened(pushing: Pushing, digest: str, digests: Digests) -> str | None:
    async for piece in pushing.read(digest):
        await digests.update([piece])
    _, diff_id = await digests.finish()
    return diff_id

"""What every sweep over records does: one record holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from pipeline.errors import YardError
from schemas.base import Record

R = TypeVar("R", bound=Record)

log = logging.getLogger(__name__)


async def one_by_one(records: Iterable[R], work: Callable[[R], Awaitable[object]]) -> None:
    """Do `work` on each. Whatever it raises is logged with the record's uuid; the next sweep tries
    that one again."""
    for record in records:
        try:
            await work(record)
        except YardError as error:
            what = "%s %s is looked at again later: %s"
            log.warning(what, record.resource, record.uuid, error.message)
        except Exception:
            log.exception("%s %s is looked at again later", record.resource, record.uuid)

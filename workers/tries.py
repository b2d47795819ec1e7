"""Whether a failing handler will be called again for the same message."""

from __future__ import annotations

from typing import Annotated

from faststream import Context, Depends

from pipeline.adapters.bus import Delivered
from pipeline.rules.topology import StagePlan


def _is_last(
    plan: Annotated[StagePlan, Context("plan")],
    delivered: Annotated[Delivered, Context("delivered")],
) -> bool:
    return delivered.attempt >= plan.max_deliver


LastTry = Annotated[bool, Depends(_is_last)]
"""Parameter of a handler that must settle its record instead of failing once more."""

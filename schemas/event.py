"""The data of events, as readers see it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class EventData(BaseModel):
    """What every event of a record tells; some kinds add facts of their own."""

    model_config = ConfigDict(extra="allow")

    id: str
    """uuid of the record."""
    org: str
    revision: int
    """Of the record after what happened: later events of a record have higher ones."""
    name: str | None = None
    status: str | None = None
    reason: str | None = None

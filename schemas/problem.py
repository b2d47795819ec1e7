"""Problem details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    """Stable snake_case, the same as the error class in `pipeline.errors`."""
    errors: list[dict[str, Any]] | None = None
    """One entry per bad field: `field`, `message`."""

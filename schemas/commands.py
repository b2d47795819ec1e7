"""The data of commands: what somebody may publish to ask for something."""

from __future__ import annotations

from schemas.base import Shape


class ById(Shape):
    """An order about a record that exists."""

    id: str


class NodeOrder(Shape):
    """What one agent must do about one container."""

    container: str
    org: str
    fence: int
    """Number of the launch that this belongs to; an older one than the newest seen is refused."""

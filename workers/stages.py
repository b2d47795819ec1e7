"""Every module of stages: what a worker runs and what the AsyncAPI document describes."""

from __future__ import annotations

from typing import Final

from workers import containers, images, models, registries, secrets

STAGES: Final = (images, containers, models, registries, secrets)

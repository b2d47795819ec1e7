from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from pipeline.settings import Settings
from tests.support.http.front import Front, application, caller, front


@pytest.fixture
def settings() -> Settings:
    return Settings(body_max_bytes=4096, event_buffer_frames=16, wait_max_s=2)


@pytest.fixture
async def fake(settings: Settings) -> AsyncIterator[Front]:
    async with front(settings) as opened:
        yield opened


@pytest.fixture
async def app(fake: Front) -> AsyncIterator[FastAPI]:
    async with application(fake) as running:
        yield running


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Called by an administrator of `acme`."""
    async with caller(app) as client:
        yield client

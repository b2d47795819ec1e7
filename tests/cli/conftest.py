"""The command line, and a server for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import Result

from cli.main import app
from tests.support.command_line import CliRunner
from tests.support.http.said_yard import Yard


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No server and no token is known."""
    for name in ("MODELYARD_URL", "MODELYARD_TOKEN", "ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELYARD_STATE", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


@pytest.fixture
def yard(bare: pytest.MonkeyPatch) -> Yard:
    yard = Yard()
    real = httpx.Client
    bare.setattr(httpx, "Client", lambda **options: real(transport=yard, **options))
    return yard


@pytest.fixture
def command() -> Callable[..., Result]:
    def run(*arguments: str, given: bytes | str | None = None) -> Result:
        done = CliRunner().invoke(app, arguments, input=given)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done

    return run

"""The health check inside our image."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.commands import fails, run

HEALTHY = "deploy/image/healthy"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/healthz", "/metrics") else 503)
        self.end_headers()
        self.wfile.write(b"store: no answer")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "127.0.0.1"])
async def test_it_asks_where_the_server_listens(port: int, host: str) -> None:
    await run(HEALTHY, env={"MODELYARD_API_PORT": str(port), "MODELYARD_API_HOST": host})


async def test_another_port_is_asked_on_loopback(port: int) -> None:
    env = {"MODELYARD_API_PORT": "1", "MODELYARD_API_HOST": "192.0.2.1"}
    await run(HEALTHY, "/metrics", str(port), env=env)


async def test_another_answer_may_be_the_one_that_is_expected(port: int) -> None:
    await run(HEALTHY, "/", str(port), "503")
    assert "200" in await fails(HEALTHY, "/healthz", str(port), "401")


async def test_a_file_that_was_touched_of_late_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    assert "No such file" in await fails(HEALTHY, "touched", str(file), "30")
    file.touch()
    await run(HEALTHY, "touched", str(file), "30")
    long_ago = file.stat().st_mtime - 31
    os.utime(file, (long_ago, long_ago))
    assert "was last touched 3" in await fails(HEALTHY, "touched", str(file), "30")


async def test_it_says_what_is_wrong(port: int) -> None:
    assert "503 store: no answer" in await fails(HEALTHY, "/readyz", str(port))
    assert "ConnectionRefusedError" in await fails(HEALTHY, "/healthz", "1")

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from sample_model.server import MAX_BODY_BYTES, ModelServer


class Counting:
    def classify(self, data: bytes) -> dict[str, Any]:
        return {"label": f"{len(data)} bytes"}

    def classify_file(self, path: Path) -> dict[str, Any]:
        return self.classify(path.read_bytes())


class Running:
    def __init__(self) -> None:
        self.server = ModelServer(0, Counting(), "counting 1")
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        """The answer's status and its JSON."""
        connection = HTTPConnection("127.0.0.1", self.server.server_address[1], timeout=5)
        connection.request(method, path, body, headers)
        return self._read(connection)

    def ask_without_sending(self, path: str, **headers: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self.server.server_address[1], timeout=5)
        connection.putrequest("POST", path)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return self._read(connection)

    def _read(self, connection: HTTPConnection) -> Any:
        answer: HTTPResponse = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(body) if body else None

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(5)
        self.server.server_close()


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


def test_status_is_a_json_object_that_names_the_model(running: Running) -> None:
    status, body = running.ask("GET", "/status?verbose=1")
    assert (status, body["statusCode"], body["status"]) == (200, 200, "OK")
    assert body["model"] == "counting 1"


def test_run_answers_the_models_result(running: Running) -> None:
    assert running.ask("POST", "/run", b'{"text": "abc"}') == (200, {"label": "3 bytes"})


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 404),
        ("GET", "/status/", None, 404),
        ("GET", "/run", None, 405),
        ("POST", "/status", b"{}", 405),
        ("DELETE", "/shutdown", None, 405),
        ("BREW", "/run", b"{}", 501),
        ("POST", "/run", b"", 400),
        ("POST", "/run", b"{", 400),
        ("POST", "/run", b"[" * 100_000, 400),
        ("POST", "/run", b"\xff", 400),
        ("POST", "/run", b"[1]", 422),
    ],
)
def test_what_it_cannot_do_it_says_in_json(
    running: Running, method: str, path: str, body: bytes | None, status: int
) -> None:
    got, answer = running.ask(method, path, body)
    assert (got, answer["statusCode"]) == (status, status)
    assert answer["message"]
    assert running.ask("GET", "/status")[0] == 200


def test_what_is_no_http_is_refused_in_json(running: Running) -> None:
    with socket.create_connection(running.server.server_address[:2], timeout=5) as connection:
        connection.sendall(b"one two three four\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b'"statusCode": 400' in answer


def test_a_body_that_is_too_large_or_of_unknown_length_is_refused_before_it_is_read(
    running: Running,
) -> None:
    assert running.ask_without_sending("/run", Content_Length=str(MAX_BODY_BYTES + 1))[0] == 413
    assert running.ask_without_sending("/run", Content_Length="-1")[0] == 400
    assert running.ask_without_sending("/run", Transfer_Encoding="chunked")[0] == 411


def test_shutdown_answers_first_and_then_ends_the_server(running: Running) -> None:
    assert running.ask("POST", "/shutdown")[0] == 200
    running.thread.join(5)
    assert not running.thread.is_alive()
    running.server.server_close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.server.server_address[:2], timeout=5)


def test_a_sender_that_leaves_in_the_middle_hurts_nobody(running: Running) -> None:
    with socket.create_connection(running.server.server_address[:2], timeout=5) as connection:
        connection.sendall(b'POST /run HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"text"')
    assert running.ask("GET", "/status")[0] == 200

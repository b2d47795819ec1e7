"""The HTTP side: GET /status, POST /run, POST /shutdown, all JSON, errors included."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from sample_model.runs import Model, Unacceptable, run

MAX_BODY_BYTES = 16 * 1024 * 1024
ALLOWED = {"/status": "GET", "/run": "POST", "/shutdown": "POST"}


class ModelServer(ThreadingHTTPServer):
    """Serves `model` until somebody posts /shutdown or calls `stop`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, model: Model, name: str) -> None:
        """Listens at once, on every interface. Raises OSError when the port cannot be had."""
        super().__init__(("", port), Handler)
        self.model = model
        self.name = name

    def stop(self) -> None:
        """Returns at once. `shutdown` waits for the serving loop, which may be our caller."""
        threading.Thread(target=self.shutdown).start()


class Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    server_version = "sample-model"
    path = ""
    """Until a request line was understood."""
    timeout: ClassVar[int] = 30
    """Seconds until a silent connection is closed."""

    def do_GET(self) -> None:
        self._route()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET

    def _route(self) -> None:
        path = self.path.partition("?")[0]
        if path not in ALLOWED:
            self.send_error(HTTPStatus.NOT_FOUND, f"There is no {path} here.")
        elif self.command != ALLOWED[path]:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {ALLOWED[path]} only.")
        elif (body := self._body()) is not None:
            {"/status": self._status, "/run": self._run, "/shutdown": self._shutdown}[path](body)

    def _status(self, _body: bytes) -> None:
        self._answer(HTTPStatus.OK, {"message": "The model is ready.", "model": self.server.name})

    def _run(self, body: bytes) -> None:
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            self.send_error(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {error}.")
            return
        try:
            output = run(self.server.model, request)
        except Unacceptable as error:
            self.send_error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
            return
        self._send(HTTPStatus.OK, output)

    def _shutdown(self, _body: bytes) -> None:
        self._answer(HTTPStatus.OK, {"message": "The model stops."})
        self.server.stop()

    def _body(self) -> bytes | None:
        """None after a refusal: then nothing was read and the connection ends."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "Send a Content-Length.")
        elif not (length.isascii() and length.isdigit()):
            self.send_error(HTTPStatus.BAD_REQUEST, "Content-Length must be a number.")
        elif int(length) > MAX_BODY_BYTES:
            refusal = f"The body may have {MAX_BODY_BYTES} bytes."
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, refusal)
        else:
            return self.rfile.read(int(length))
        return None

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Health checks come every few seconds: only those that fail are worth a line."""
        if (self.path, code) != ("/status", HTTPStatus.OK):
            super().log_request(code, size)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """JSON instead of the HTML of the standard library, and no second request after it."""
        self.close_connection = True
        self._answer(HTTPStatus(code), {"message": message or HTTPStatus(code).phrase})

    def _answer(self, status: HTTPStatus, facts: dict[str, Any]) -> None:
        self._send(status, {"statusCode": status.value, "status": status.phrase} | facts)

    def _send(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ALLOWED[self.path.partition("?")[0]])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

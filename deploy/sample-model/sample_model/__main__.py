"""`python3 -m sample_model` serves; with `--health` it asks the server beside it how it is."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request

DEFAULT_PORT = 8080


def main() -> int:
    port = _port(os.environ.get("PSC_MODEL_PORT", ""))
    if "--health" in sys.argv[1:]:
        return _health(port)
    _serve(port)
    return 0


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SystemExit(f"PSC_MODEL_PORT must be a port number, not {text!r}.")
    return int(text)


def _health(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5):
            return 0
    except OSError as error:
        print(f"/status on port {port}: {error}")
        return 1


def _serve(port: int) -> None:
    # Imported here: the network takes time that a health check need not spend.
    from sample_model.classifier import Classifier
    from sample_model.server import ModelServer

    classifier = Classifier()
    with ModelServer(port, classifier, classifier.name) as server:
        # As process 1 of a container we would otherwise never see the signal.
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        print(f"{classifier.name} listens on port {port}", flush=True)
        server.serve_forever()
    print("stopped", flush=True)


if __name__ == "__main__":
    sys.exit(main())

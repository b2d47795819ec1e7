"""`python -m api`: the HTTP server."""

from __future__ import annotations

import logging
import sys

from api.app import create
from api.server.protocol import server
from pipeline.adapters.tracing import exporting
from pipeline.settings import Settings
from pipeline.telemetry import configure_logging


def main() -> int:
    settings = Settings()
    configure_logging(settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(_plain)
    running = server(create(settings), settings)
    with exporting(settings.traces_endpoint, service="api"):
        running.run()
    return 0 if running.started else 1


def _plain(record: logging.LogRecord) -> bool:
    """Leaves out the coloured copy of the message that uvicorn adds for terminals."""
    vars(record).pop("color_message", None)
    return True


if __name__ == "__main__":
    sys.exit(main())

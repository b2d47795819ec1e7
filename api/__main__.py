"""`python -m api`: the HTTP server."""

from __future__ import annotations

import sys

from api.app import create
from api.server import server
from pipeline.settings import Settings
from pipeline.telemetry import configure_logging


def main() -> int:
    settings = Settings()
    configure_logging(settings.log_level)
    running = server(create(settings), settings)
    running.run()
    return 0 if running.started else 1


if __name__ == "__main__":
    sys.exit(main())

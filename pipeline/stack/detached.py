"""A stack in the background: the caller hears its progress through a pipe until it is ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path

from pipeline.errors import Misconfigured, YardError
from pipeline.stack.processes.process import telling_line

Facts = dict[str, str]


def start_detached(command: Sequence[str], *, log: Path, report: Callable[[str], None]) -> Facts:
    """Runs `command <fd>`, which speaks through a `Notifier` on that descriptor.

    Returns what it says when it is ready; it runs on. Raises Misconfigured when it gives up, and
    ends it when we are interrupted.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines:
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    [*command, str(writing)],
                    pass_fds=[writing],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        finally:
            os.close(writing)
        try:
            return _read_messages(lines, log, report)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGTERM)
            raise
        except YardError:
            child.wait()
            raise
        finally:
            # It is not ours to wait for; without this Python warns that it still runs.
            child.returncode = child.returncode or 0


class Notifier:
    """The other end of the pipe. After `ready` or `failed` it is silent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def report(self, text: str) -> None:
        self._send(report=text)

    def ready(self, facts: Facts) -> None:
        self._send(ready=facts)
        self._close()

    def failed(self, message: str) -> None:
        self._send(failed=message)
        self._close()

    def _send(self, **what: object) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, json.dumps(what).encode() + b"\n")
        except BrokenPipeError:
            # Whoever started us has gone; we were asked to run on without them.
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read_messages(lines: TextIOWrapper, log: Path, report: Callable[[str], None]) -> Facts:
    for line in lines:
        message = json.loads(line)
        if "report" in message:
            report(message["report"])
        elif "ready" in message:
            facts: Facts = message["ready"]
            return facts
        else:
            raise Misconfigured(message["failed"])
    raise Misconfigured(f"The stack ended before it was ready; {log} says: {telling_line(log)}")

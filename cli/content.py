"""What commands send: a text, a file or standard input."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from os import fstat
from pathlib import Path
from typing import IO, Any, Final

import typer

from cli.console import refuse, standard_input

MEASURED_BYTES: Final = 8 * 1024 * 1024
"""What is longer is sent while it is read, without saying how long it is: small model servers
take no such calls."""
PIECE_BYTES: Final = 64 * 1024


@contextmanager
def content(data: str) -> Iterator[bytes | Iterable[bytes]]:
    """Of a text, of `@FILE` or, by `-`, of standard input. Exits when it cannot be read."""
    if data == "-":
        yield _read(standard_input(), "Standard input")
    elif data.startswith("@"):
        with opened(data[1:]) as file:
            # The length of a file is known to whoever sends it, while a pipe looks empty.
            yield file if stat.S_ISREG(fstat(file.fileno()).st_mode) else _read(file, data[1:])
    else:
        yield _encoded(data)


def json_value(data: str, what: str, kind: type | tuple[type, ...] = dict) -> Any:
    """The JSON of a text, `@FILE` or standard input. Exits, naming `what`, for anything else."""
    with content(data) as given:
        text = given if isinstance(given, bytes) else b"".join(given)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        refuse(f"{what} is no JSON: {error}.", "Give it as text, @FILE or - for standard input.")
    if not isinstance(value, kind):
        refuse(f"{what} is no JSON object.")
    return value


def opened(name: str) -> IO[bytes]:
    """A file to be read. Exits when it cannot be."""
    try:
        return Path(name).open("rb")
    except (OSError, ValueError) as error:
        refuse(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")


def secret(what: str, *, is_piped: bool) -> str:
    """Asked for, or all of standard input but one end of a line, which belongs to how it was
    written. Never an argument: those are seen by others."""
    stream = standard_input()
    if not is_piped:
        return str(typer.prompt(what.capitalize(), hide_input=True, err=True))
    try:
        text = stream.read().decode()
    except UnicodeDecodeError:
        refuse(f"The {what} on standard input is no UTF-8 text.")
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        refuse("--data is no UTF-8 text.", "Put it into a file and give --data @FILE.")


def _read(source: IO[bytes], name: str) -> bytes | Iterable[bytes]:
    try:
        begun = source.read(MEASURED_BYTES + 1)
    except OSError as error:
        refuse(f"{name} cannot be read: {error.strerror}")
    if len(begun) <= MEASURED_BYTES:
        return begun
    return chain([begun], iter(partial(source.read, PIECE_BYTES), b""))


def published(text: str) -> dict[str, Any]:
    """The port that `[HOST:]CONTAINER[/udp]` means. Exits for what is none."""
    mapping, _, protocol = text.partition("/")
    host, _, internal = mapping.rpartition(":")
    if not _is_port(internal) or not _is_port(host or "0") or not int(internal):
        refuse(f"{text!r} is not [HOST:]CONTAINER[/udp].", "Ports go from 1 to 65535.")
    return {"internal": int(internal), "host": int(host or 0), "protocol": protocol or "tcp"}


def _is_port(text: str) -> bool:
    # Other digits than ASCII ones count as digits, too, and thousands of them are no number.
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 2**16

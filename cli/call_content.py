"""What `modelyard containers call` sends: a text, a file or standard input."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from os import fstat
from pathlib import Path
from typing import IO, Final

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
        with _opened(data[1:]) as file:
            # The length of a file is known to whoever sends it, while a pipe looks empty.
            yield file if stat.S_ISREG(fstat(file.fileno()).st_mode) else _read(file, data[1:])
    else:
        yield _encoded(data)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        refuse("--data is no UTF-8 text.", "Put it into a file and give --data @FILE.")


def _opened(name: str) -> IO[bytes]:
    try:
        return Path(name).open("rb")
    except (OSError, ValueError) as error:
        refuse(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")


def _read(source: IO[bytes], name: str) -> bytes | Iterable[bytes]:
    try:
        begun = source.read(MEASURED_BYTES + 1)
    except OSError as error:
        refuse(f"{name} cannot be read: {error.strerror}")
    if len(begun) <= MEASURED_BYTES:
        return begun
    return chain([begun], iter(partial(source.read, PIECE_BYTES), b""))

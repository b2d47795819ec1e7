"""Names inside a TAR: normalised, and never outside of it."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import NotATar, TarUnsafePath


def inside(name: str) -> str:
    """The normalised path. Raises TarUnsafePath for an absolute one and for any `..`."""
    if name.startswith("/") or "\0" in name:
        raise TarUnsafePath(f"{shown(name)} is an absolute path: paths must be relative.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TarUnsafePath(f"{shown(name)} leaves the archive by '..'.")
    return "/".join(parts)


def target(link: str, *, of: str) -> str:
    """Where a link points: relative to the folder of `of` for a symbolic link (to the root when it
    is empty, as for a hard link). Raises TarUnsafePath when that is outside the archive.
    """
    if link.startswith("/") or "\0" in link or not link:
        raise TarUnsafePath(f"A link points to {shown(link)}, outside of the archive.")
    resolved = of.split("/")[:-1] if of else []
    for part in link.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            resolved.append(part)
        elif resolved:
            resolved.pop()
        else:
            raise TarUnsafePath(f"A link points to {shown(link)}, outside of the archive.")
    return "/".join(resolved)


def pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """`<length> <key>=<value>\\n`, as often as there are. Raises NotATar when malformed."""
    while data.strip(b"\0"):
        length, found, _ = data.partition(b" ")
        if not found or not length.isdigit() or len(length) > 8:
            raise NotATar("The archive has a broken PAX header.")
        end = int(length)
        record = data[len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise NotATar("The archive has a broken PAX header.")
        yield decode(key), decode(value[:-1])
        data = data[end:]


def pax_size(text: str) -> int:
    """Raises NotATar for anything but digits."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotATar("The archive has a broken size in a PAX header.")
    return int(text)


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def shown(name: str) -> str:
    """For a message: short, printable, without lone surrogates."""
    text = name.encode("utf-8", "replace").decode("utf-8", "replace")
    return repr(text if len(text) <= 120 else text[:117] + "...")

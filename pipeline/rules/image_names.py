"""How an image that comes as an archive may be called."""

from __future__ import annotations

from typing import Final

from pipeline.errors import InvalidInput

NAME_MAX: Final = 255
REPO_TAG_MAX: Final = 512


def require(text: str, field: str, *, most: int = NAME_MAX) -> None:
    """Raises InvalidInput for a text that is empty, too long or not printable."""
    if not 1 <= len(text) <= most or not text.isprintable():
        raise InvalidInput(f"{field} needs 1 to {most} printable characters.", field=field)


def shown(text: str | None) -> str:
    """What can be shown of a name that nobody chose, a file's or one that an archive holds."""
    printable = (character for character in text or "" if character.isprintable())
    return "".join(printable)[:NAME_MAX]

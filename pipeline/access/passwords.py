"""Passwords: Argon2id (RFC 9106).

Hashing and checking take tens of milliseconds and tens of MiB on purpose; both release the GIL,
so the caller runs them in a thread.
"""

from __future__ import annotations

from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from pipeline.errors import InvalidInput

MIN_LENGTH = 8
MAX_LENGTH = 1024
"""In characters. Hashing time grows with the length, so it is capped before hashing."""


class Passwords:
    """The parameters in force. Hashes of older parameters stay valid and read as outdated."""

    def __init__(
        self, *, time_cost: int = 3, memory_kib: int = 65_536, parallelism: int = 4
    ) -> None:
        self._hasher = PasswordHasher(time_cost, memory_kib, parallelism)

    @cached_property
    def _nobody(self) -> str:
        """What the password of an unknown user is checked against."""
        return self._hasher.hash(b"")

    def hash(self, password: str) -> str:
        """Raises InvalidInput for a password that is too short or too long."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise InvalidInput(
                f"A password needs {MIN_LENGTH} to {MAX_LENGTH} characters.", field="password"
            )
        return self._hasher.hash(_octets(password))

    def matches(self, password: str, hashed: str | None) -> bool:
        """With None (no such user) it takes as long as with a hash, and is false."""
        # Made for known users too: the first login must not show who is unknown either.
        nobody = self._nobody
        try:
            right = self._hasher.verify(hashed or nobody, _octets(password)[: MAX_LENGTH * 4])
        except (VerificationError, InvalidHashError):
            return False
        return right and hashed is not None and len(password) <= MAX_LENGTH

    def is_outdated(self, hashed: str) -> bool:
        """Whether the parameters have changed since; hash the password anew at the next login."""
        return self._hasher.check_needs_rehash(hashed)


def _octets(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")

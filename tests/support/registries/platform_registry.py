"""The platform's own registry in tests: it opens to tokens made with KEYS."""

from __future__ import annotations

from pipeline.adapters.registry.tokens import PUSH, Access, RegistryTokens, make_key

KEYS = make_key()
NO_REALM = "http://127.0.0.1:1/token"
"""For tests in which no engine pulls from it."""


def tokens(host: str) -> RegistryTokens:
    return RegistryTokens(host, KEYS)


def proof(repository: str) -> dict[str, str]:
    """What opens a repository to a test that looks into it."""
    return {"Authorization": f"Bearer {tokens('').token(Access(repository, PUSH))}"}

"""Where the platform's own registry keeps what an organisation brought."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple

from pipeline.errors import InvalidReference
from pipeline.oci import references

IMAGES: Final = "images"
LAYERS: Final = "layers"
MODELS: Final = "models"
NAME_MAX: Final = 128

_PLAIN = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_ODD = re.compile(r"[^a-z0-9]+")


class Place(NamedTuple):
    repository: str
    tag: str


def pool(org: str) -> str:
    """The repository through which all layers of an organisation go."""
    return f"{LAYERS}/{_component(org)}"


def place(org: str, name: str | None, repo_tag: str | None, digest: str) -> Place:
    """Where an uploaded image goes: as it is called, else as its archive calls it.

    A name without a tag takes the one of the archive. `digest` names what nobody named.
    """
    own = _parsed(name)
    archived = _parsed(repo_tag)
    path = own or archived or Place(f"image-{digest.partition(':')[2][:12]}", "")
    tag = path.tag or (archived.tag if archived else "") or references.DEFAULT_TAG
    return Place(f"{IMAGES}/{_component(org)}/{path.repository}", tag)


def shown(repository: str, tag: str | None) -> str:
    """What people call an uploaded image that nobody named: as it is called where it lies."""
    kind, _, rest = repository.partition("/")
    path = rest.partition("/")[2] if kind == IMAGES else ""
    return f"{path or repository}:{tag or references.DEFAULT_TAG}"


def of_version(identifier: str, version: str) -> Place:
    """Where the image of a model's version lies. Tags know no `+`."""
    return Place(f"{MODELS}/{identifier}", version.replace("+", "_"))


def is_same_registry(one: str, other: str) -> bool:
    """Both `host:port`. A machine's own addresses are all the same to it."""
    are_local = _is_loopback(_split(one)[0]) and _is_loopback(_split(other)[0])
    return one == other or (are_local and have_same_port(one, other))


def have_same_port(one: str, other: str) -> bool:
    """Where none is given, it may be that of either scheme."""
    return bool(_split(one)[1] & _split(other)[1])


def is_kept_for_others(org: str, repository: str) -> bool:
    """Whether a repository is one of those where another organisation's images or layers lie."""
    kind, _, rest = repository.partition("/")
    owner, _, path = rest.partition("/")
    is_kept = kind == LAYERS or (kind == IMAGES and path)
    return bool(is_kept) and owner != _component(org)


def model_of(repository: str) -> str | None:
    """Identifier of the model whose images would lie there."""
    kind, _, rest = repository.partition("/")
    return rest if kind == MODELS and rest and "/" not in rest else None


def _split(registry: str) -> tuple[str, set[str]]:
    """The host and the ports that may be meant."""
    host, _, port = registry.rpartition(":")
    if host and port.isdecimal() and not host.endswith(":"):
        return host, {port}
    return registry, {"80", "443"}


@lru_cache(maxsize=128)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _parsed(text: str | None) -> Place | None:
    """Repository without host, and tag or ``. What is no reference is made into one."""
    if not text:
        return None
    try:
        found = references.parse(text)
    except InvalidReference:
        return Place(_component(text), "")
    is_tagged = ":" in text.rpartition("/")[2]
    repository = found.repository
    if found.registry == references.DOCKER_HUB:
        repository = repository.removeprefix("library/")
    if len(repository) > NAME_MAX:
        repository = _component(repository)
    return Place(repository, found.tag if is_tagged and found.tag else "")


def _component(text: str) -> str:
    """One path component; texts that differ do so afterwards."""
    if len(text) <= NAME_MAX and _PLAIN.fullmatch(text):
        return text
    shown = _ODD.sub("-", text.lower()).strip("-")[:40] or "x"
    return f"{shown}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

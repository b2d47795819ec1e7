"""What an image declares that it needs, read from its configuration.

`NVIDIA_REQUIRE_CUDA` has the grammar of the NVIDIA container toolkit: alternatives separated by
spaces, conditions of one alternative separated by commas, a condition is `property operator
version` without spaces, for instance `cuda>=12.4 brand=tesla,driver>=535,driver<536`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.rules import versions
from pipeline.rules.manifests import Config
from schemas.image import Needs

GPUS_LABEL: Final = "modelyard.gpus"
"""Label of an image with the number of GPUs that it needs; it wins over every other sign."""
GPUS_MAX: Final = 1024
VERSION_MAX: Final = 64

_CONDITION = re.compile(r"(?P<property>[a-z]+)(?P<operator>>=|<=|!=|=|<|>)(?P<value>[\w.+-]+)")
_NO_DEVICE = frozenset({"", "none", "void"})

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Least:
    """The lower bounds of one alternative; None where it has none."""

    cuda: Version | None = None
    driver: Version | None = None
    arch: Version | None = None


def read_needs(config: Config) -> Needs:
    """Ports, GPUs and versions that the image declares. Unreadable declarations declare nothing.

    An image needs a GPU only when it says so: by the label `modelyard.gpus`, or by
    `NVIDIA_REQUIRE_CUDA`, and then as many as `NVIDIA_VISIBLE_DEVICES` lists. `CUDA_VERSION`
    alone says what it was built with, not that it cannot do without.
    """
    least = _least(config.env)
    return Needs(
        ports=list(config.ports),
        gpus=_gpus(config),
        cuda=_dotted(least.cuda, 2),
        driver=_dotted(least.driver, 3),
        compute_capability=_dotted(least.arch, 2),
    )


def alternatives(requirement: str) -> Iterator[Least]:
    """The lower bounds of each alternative of a requirement, in its order."""
    for alternative in requirement.split():
        found = [_CONDITION.fullmatch(condition) for condition in alternative.split(",")]
        if all(found):
            yield _bounds([match for match in found if match])


def _bounds(conditions: list[re.Match[str]]) -> Least:
    least: dict[str, Version] = {}
    for condition in conditions:
        name, version = condition["property"], _version(condition["value"])
        is_lower = condition["operator"] in (">=", "=", ">")
        if name in ("cuda", "driver", "arch") and is_lower and version is not None:
            least[name] = max(version, least.get(name, ()))
    return Least(**least)


def _least(env: Mapping[str, str]) -> Least:
    built_with = Least(cuda=_version(env.get("CUDA_VERSION", "")))
    if env.get("NVIDIA_DISABLE_REQUIRE", "").lower() in ("1", "true"):
        return built_with
    found = list(alternatives(env.get("NVIDIA_REQUIRE_CUDA", "")))
    with_cuda = [least for least in found if least.cuda is not None]
    if with_cuda:
        # The other alternatives name driver branches with a compatibility package, which depend
        # on the brand of the GPU; the CUDA bound holds on every brand.
        return min(with_cuda, key=lambda least: least.cuda or ())
    return found[0] if found else built_with


def _gpus(config: Config) -> int:
    label = config.labels.get(GPUS_LABEL, "")
    if label.isdecimal() and int(label) <= GPUS_MAX:
        return int(label)
    if not config.env.get("NVIDIA_REQUIRE_CUDA"):
        return 0
    visible = config.env.get("NVIDIA_VISIBLE_DEVICES", "all").strip().lower()
    if visible in _NO_DEVICE:
        return 0
    return min(len({name for name in visible.split(",") if name.strip()}), GPUS_MAX) or 1


def _version(text: str) -> Version | None:
    # Python refuses to read a number of thousands of digits, which an image may well hold.
    return versions.parse(text) or None if len(text) <= VERSION_MAX else None


def _dotted(version: Version | None, places: int) -> str | None:
    if version is None:
        return None
    padded = (*version, 0)[: max(2, min(places, len(version)))]
    return ".".join(map(str, padded))

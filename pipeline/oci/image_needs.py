"""What an image declares that it needs, read from its configuration.

Of NVIDIA's container toolkit every variable `NVIDIA_REQUIRE_*` is one requirement, and all of them
must hold. Of a requirement one alternative must hold (spaces stand between them), of an alternative
every condition (commas stand between them). A condition is a property (`cuda`, `driver`, `arch`,
`brand`), an operator and a value: `cuda>=12.9 brand=tesla,driver>=570,driver<571`. An image of
before there were requirements says `CUDA_VERSION` alone. `NVIDIA_DISABLE_REQUIRE` drops all of it.

Source: `src/cli/dsl.c` of NVIDIA/libnvidia-container, `internal/config/image/cuda_image.go` of
NVIDIA/nvidia-container-toolkit.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from pipeline.oci import dotted_versions
from pipeline.oci.dotted_versions import Version
from pipeline.oci.manifests import Config, Manifest
from pipeline.ports import ResolvedImage
from schemas.image import Needs, ReferenceParts

GPUS_LABEL: Final = "modelyard.gpus"
"""Label of an image with the number of GPUs that it needs; it wins over every other sign."""
GPUS_MAX: Final = 1024

_NO_DEVICE = frozenset({"", "none", "void"})


@dataclass(frozen=True, slots=True)
class Least:
    """Lower bounds; None where there is none."""

    cuda: Version | None = None
    driver: Version | None = None
    arch: Version | None = None


def resolved(
    parts: ReferenceParts, manifest: Manifest, config: Config, *, missing: tuple[str, ...] = ()
) -> ResolvedImage:
    """What is known of the image whose manifest has the digest in `parts`."""
    assert parts.digest is not None, "it was resolved"
    return ResolvedImage(
        parts=parts,
        digest=parts.digest,
        platform=config.platform,
        size_bytes=manifest.size_bytes,
        config_digest=manifest.config.digest,
        layers=manifest.layers,
        labels=config.labels,
        env=config.env,
        needs=read_needs(config),
        has_healthcheck=config.has_healthcheck,
        command=config.command,
        user=config.user,
        missing=missing,
        annotations=manifest.annotations,
    )


def read_needs(config: Config) -> Needs:
    """Ports, GPUs and versions that the image declares. Unreadable declarations declare nothing.

    An image needs a GPU only when it says so: by the label `modelyard.gpus`, or by one of
    `NVIDIA_REQUIRE_*`, and then as many as `NVIDIA_VISIBLE_DEVICES` lists. `CUDA_VERSION`
    alone says what it was built with, not that it cannot do without. The versions are for people:
    placement asks the requirements themselves.
    """
    least = _strictest(map(_easiest, read(config.env)))
    return Needs(
        ports=list(config.ports),
        gpus=_gpus(config.labels, config.env),
        cuda=_dotted(least.cuda, 2),
        driver=_dotted(least.driver, 3),
        compute_capability=_dotted(least.arch, 2),
    )


def _easiest(requirement: Requirement) -> Least:
    """Of its alternatives, the one with the lowest CUDA version, else the first.

    The other alternatives name driver branches with a compatibility package, which depend on the
    brand of the GPU; the CUDA bound holds on every brand.
    """
    found = [_bounds(alternative) for alternative in requirement.alternatives]
    with_cuda = [least for least in found if least.cuda is not None]
    return min(with_cuda, key=lambda least: least.cuda or ()) if with_cuda else found[0]


def _bounds(alternative: Alternative) -> Least:
    least: dict[str, Version] = {}
    for condition in alternative:
        if condition.name != "brand" and condition.is_lower:
            known = least.get(condition.name, ())
            least[condition.name] = max(condition.version, known)
    return Least(**least)


def _strictest(found: Iterable[Least]) -> Least:
    listed = list(found)
    return Least(
        **{
            field.name: max(
                (bound for one in listed if (bound := getattr(one, field.name)) is not None),
                default=None,
            )
            for field in fields(Least)
        }
    )


def _gpus(labels: Mapping[str, str], env: Mapping[str, str]) -> int:
    label = labels.get(GPUS_LABEL, "")
    if label.isdecimal() and int(label) <= GPUS_MAX:
        return int(label)
    if not is_declared(env):
        return 0
    visible = env.get("NVIDIA_VISIBLE_DEVICES", "all").strip().lower()
    if visible in _NO_DEVICE:
        return 0
    return min(len({name for name in visible.split(",") if name.strip()}), GPUS_MAX) or 1


def _dotted(version: Version | None, places: int) -> str | None:
    if version is None:
        return None
    padded = (*version, 0, 0)[: max(2, min(places, len(version)))]
    return ".".join(map(str, padded))


# --- What images tell NVIDIA's container toolkit that they need of driver and GPU

CUDA: Final = "NVIDIA_REQUIRE_CUDA"
DISABLE: Final = "NVIDIA_DISABLE_REQUIRE"
BUILT_WITH: Final = "CUDA_VERSION"
VALUE_MAX: Final = 16 * 1024
"""Those of NVIDIA's own images have up to 4 KiB."""
VERSION_MAX: Final = 64

_VARIABLE = re.compile(r"NVIDIA_REQUIRE_(?!JETPACK)\w+", re.ASCII)
"""What is told of Jetpack concerns another product, and the toolkit does not look at it either."""
_CONDITION = re.compile(
    r"(?P<property>cuda|driver|arch|brand)(?P<operator>>=|<=|!=|=|<|>)(?P<value>[\w.]+)",
    re.ASCII | re.IGNORECASE,
)
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*\.?")
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node has, and one of its GPUs."""

    cuda: str | None
    driver: str | None
    arch: str | None
    """Compute capability; None when there is no GPU to ask."""
    brands: frozenset[str]
    """Every name that its brand goes by, in lower case; empty when nobody knows it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Lower case throughout: neither properties nor brands tell cases apart."""

    name: str
    """Of the property."""
    operator: str
    value: str

    @property
    def version(self) -> Version:
        """Of a condition on anything but the brand."""
        return dotted_versions.parse(self.value) or ()

    @property
    def is_lower(self) -> bool:
        return self.operator in (">=", "=", ">")

    def holds(self, facts: Facts) -> bool:
        """A GPU or brand that nobody knows is taken to fit, as by the toolkit; a driver is not."""
        if self.name == "brand":
            is_it = self.value in facts.brands
            return not facts.brands or is_it is (self.operator == "=")
        if self.name == "arch" and facts.arch is None:
            return True
        actual = dotted_versions.parse(getattr(facts, self.name))
        return actual is not None and _COMPARE[self.operator](actual, self.version)


Alternative = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one variable demands: one of its alternatives, whole."""

    variable: str
    alternatives: tuple[Alternative, ...]
    """At least one. What cannot be read of them is left out."""

    def unmet(self, facts: Facts) -> Alternative:
        """Empty when it holds; else what is not met of the alternative that says most to people.

        That is the first one that names a CUDA version: the others name driver branches that bring
        a compatibility package.
        """
        if any(all(one.holds(facts) for one in each) for each in self.alternatives):
            return ()
        with_cuda = (each for each in self.alternatives if any(c.name == "cuda" for c in each))
        told = next(with_cuda, self.alternatives[0])
        return tuple(condition for condition in told if not condition.holds(facts))


def variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that say something here, as far as they can be read and kept."""
    first = {name: env[name] for name in (DISABLE, BUILT_WITH) if name in env}
    kept: dict[str, str] = {}
    left = VALUE_MAX
    for name, text in {**first, **env}.items():
        size = len(name) + len(text)
        if (name in first or _VARIABLE.fullmatch(name)) and size <= left and text.isascii():
            kept[name] = text
            left -= size
    return kept


def read(env: Mapping[str, str], *, without: Iterable[str] = ()) -> tuple[Requirement, ...]:
    """Everything that must hold. What cannot be read demands nothing: `unreadable` names it.

    Conditions on the properties `without` count as met.
    """
    if is_disabled(env):
        return ()
    met = frozenset(without)
    found = []
    for variable, text in _texts(env).items():
        alternatives = [
            tuple(condition for condition in each if condition.name not in met)
            for each in map(_alternative, text.split())
            if each
        ]
        if alternatives and all(alternatives):
            found.append(Requirement(variable, tuple(alternatives)))
    return tuple(found)


def is_disabled(env: Mapping[str, str]) -> bool:
    return env.get(DISABLE, "").lower() in ("1", "t", "true")


def is_declared(env: Mapping[str, str]) -> bool:
    """It says that it cannot do without a GPU; what it was built with does not."""
    return any(_VARIABLE.fullmatch(name) and text.strip() for name, text in env.items())


def unreadable(env: Mapping[str, str]) -> list[str]:
    """The variables for which the toolkit would refuse to start a container."""
    return [
        name
        for name, text in _texts(env).items()
        if not text or not all(map(_alternative, text.split()))
    ]


def _texts(env: Mapping[str, str]) -> dict[str, str]:
    """By variable; empty for one that is no text of a requirement at all."""
    kept = variables(env)
    said = (name for name, text in env.items() if _VARIABLE.fullmatch(name) and text.strip())
    texts = {name: kept.get(name, "") for name in said}
    if CUDA not in texts and (built_with := _major_minor(env.get(BUILT_WITH, ""))):
        texts[CUDA] = f"cuda>={built_with}"
    return texts


def _alternative(text: str) -> Alternative:
    """Empty when one of its conditions cannot be read."""
    found = [_condition(condition) for condition in text.split(",") if condition]
    return tuple(one for one in found if one) if all(found) else ()


def _condition(text: str) -> Condition | None:
    found = _CONDITION.fullmatch(text)
    if found is None:
        return None
    name, sign, value = found["property"].lower(), found["operator"], found["value"].lower()
    is_brand = name == "brand"
    if is_brand and sign not in ("=", "!="):
        return None
    if not is_brand and (len(value) > VERSION_MAX or not _VERSION.fullmatch(value)):
        return None
    return Condition(name, sign, value)


def _major_minor(text: str) -> str | None:
    # Python refuses to read a number of thousands of digits, which an image may well hold.
    version = dotted_versions.parse(text) if len(text) <= VERSION_MAX else None
    return ".".join(map(str, (*version, 0)[:2])) if version else None

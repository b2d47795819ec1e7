"""What the configuration of an image says of CUDA, held against its entry in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline.catalog.requirements import Gate
from pipeline.oci import dotted_versions, image_needs
from pipeline.oci.image_needs import Condition, Facts
from schemas.image import Finding, Image, Severity


def compare(gate: Gate, image: Image) -> list[Finding]:
    """All contradictions. `gate` is that of the one entry."""
    declared = image.gpu_variables or {}
    found = _of_cpu_image(image, declared) if not gate.needs_gpu else _of_gpu_image(gate, declared)
    return [
        Finding(code=code, severity=severity, message=message) for code, severity, message in found
    ]


Found = Iterator[tuple[str, Severity, str]]


def _of_cpu_image(image: Image, declared: dict[str, str]) -> Found:
    if image.needs.gpus or (image_needs.read(declared, without=()) and _demands_gpu(declared)):
        message = "The entry says that no GPU is needed, the image declares that it needs one."
        yield "cpu_contradicts_image", Severity.WARNING, message


def _demands_gpu(declared: dict[str, str]) -> bool:
    return image_needs.is_declared(declared) and not image_needs.is_disabled(declared)


def _of_gpu_image(gate: Gate, declared: dict[str, str]) -> Found:
    if not declared:
        message = "The image declares nothing of CUDA, so the entry could not be compared with it."
        yield "cuda_undeclared", Severity.INFO, message
        return
    built_with = dotted_versions.parse(declared.get(image_needs.BUILT_WITH))
    stated = dotted_versions.parse(gate.cuda_version)
    if built_with is not None and stated is not None and built_with[:2] != stated[:2]:
        message = (
            f"The entry says CUDA {gate.cuda_version}, the image was built with"
            f" {declared[image_needs.BUILT_WITH]}: correct cuda_version."
        )
        yield "cuda_version_differs", Severity.WARNING, message
    for variable, unmet in _unmet(gate, declared):
        told = ", ".join(f"{each.name}{each.operator}{each.value}" for each in unmet)
        message = (
            f"{variable} of the image demands {told}, which the weakest node that the entry admits"
            f" does not have (CUDA {gate.cuda_version}, driver {gate.min_driver_version}, compute"
            f" capability {gate.min_compute_capability})."
        )
        yield "requirement_contradicts_entry", Severity.WARNING, message


def _unmet(gate: Gate, declared: dict[str, str]) -> Iterator[tuple[str, tuple[Condition, ...]]]:
    """What a node at the lower bounds of the entry does not meet; brands are not known."""
    capability = gate.min_compute_capability
    weakest = Facts(
        cuda=gate.cuda_version,
        driver=gate.min_driver_version,
        arch=None if capability is None else str(capability),
        brands=frozenset(),
    )
    for requirement in image_needs.read(declared):
        # The toolkit takes an alternative for another brand as met when nobody knows the brand.
        plain = replace(requirement, alternatives=_without_brands(requirement.alternatives))
        if unmet := plain.unmet(weakest):
            yield requirement.variable, unmet


def _without_brands(
    alternatives: tuple[tuple[Condition, ...], ...],
) -> tuple[tuple[Condition, ...], ...]:
    """Those that hold whatever the brand; all of them where each one names a brand."""
    general = tuple(
        each for each in alternatives if all(condition.name != "brand" for condition in each)
    )
    return general or alternatives

"""What entries of the catalogue require of a node: one gate for all entries of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.catalog.snapshot import Snapshot
from pipeline.errors import InvalidInput
from pipeline.oci import dotted_versions
from schemas.registries.catalog import CatalogEntry, TableName


@dataclass(frozen=True, slots=True)
class Gate:
    """What the entries of one image require together."""

    entries: tuple[int, ...]
    """Keys of the entries."""
    needs_gpu: bool
    cuda_version: str | None = None
    """This and the next ones: None where no GPU is needed."""
    min_driver_version: str | None = None
    min_compute_capability: float | None = None

    def gpus(self, asked: int | None, declared: int) -> int:
        """How many, where so many were `asked` for and the image declares so many. Raises
        InvalidInput for a number that cannot be."""
        if not self.needs_gpu:
            if asked:
                raise InvalidInput(
                    f"The catalogue says that this image ({self._named}) works on CPUs only: ask"
                    " for no GPUs.",
                    field="gpus",
                )
            return 0
        if asked == 0:
            raise InvalidInput(
                f"The catalogue says that this image ({self._named}) needs a GPU: ask for one.",
                field="gpus",
            )
        return max(1, declared) if asked is None else asked

    @property
    def _named(self) -> str:
        return ", ".join(f"docker/{pk}" for pk in self.entries)


def gate_of(entries: Sequence[CatalogEntry], rows: Snapshot) -> Gate:
    """Of several the strictest: one that needs a GPU, the newest driver, the highest capability."""
    pks = tuple(sorted(entry.pk for entry in entries))
    demanding = [entry for entry in entries if not entry.cpu]
    if not demanding:
        return Gate(pks, needs_gpu=False)
    cuda = [rows.values(TableName.CUDA, entry.cuda_version) for entry in demanding]
    newest = max(cuda, key=lambda row: dotted_versions.parse(row["min_driver_version"]) or ())
    capabilities = [
        rows.values(TableName.HARDWARE, entry.min_hardware_generation)["min_compute_capability"]
        for entry in demanding
        if entry.min_hardware_generation is not None
    ]
    return Gate(
        pks,
        needs_gpu=True,
        cuda_version=newest["version"],
        min_driver_version=newest["min_driver_version"],
        min_compute_capability=max(capabilities, default=None),
    )

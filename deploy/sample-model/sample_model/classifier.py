"""The model itself: magika's neural network, which its package carries along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magika import Magika
from magika.types import MagikaResult


class Classifier:
    """Thread-safe; loading takes a fraction of a second and reads nothing from the network."""

    def __init__(self) -> None:
        self._magika = Magika()

    @property
    def name(self) -> str:
        return f"magika {self._magika.get_model_name()}"

    def classify(self, data: bytes) -> dict[str, Any]:
        return _described(self._magika.identify_bytes(data))

    def classify_file(self, path: Path) -> dict[str, Any]:
        """Reads only the parts of the file that the network looks at. Raises OSError."""
        with path.open("rb") as file:
            return _described(self._magika.identify_stream(file))


def _described(result: MagikaResult) -> dict[str, Any]:
    output = result.output
    return {
        "label": output.label,
        "description": output.description,
        "group": output.group,
        "mime_type": output.mime_type,
        "is_text": output.is_text,
        "score": round(result.score, 4),
    }

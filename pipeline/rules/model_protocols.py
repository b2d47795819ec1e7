"""Which protocol a model speaks, told by a label or an annotation of its image."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from schemas.image import Image

NAMED_BY: Final = "ml.openmodel.protocols"
"""Holds a list, `["v2"]` for example, spelt in many ways."""
GRPC_PORT: Final = 45000
"""Where models of `v2` listen."""

_V2 = re.compile(r"\bv2\b")


class ModelProtocol(StrEnum):
    REST = "rest"
    """Spoken by every image that does not name another one."""
    GRPC = "grpc"


def of_image(image: Image) -> ModelProtocol:
    said = (image.image_labels.get(NAMED_BY, ""), image.image_annotations.get(NAMED_BY, ""))
    return ModelProtocol.GRPC if any(map(_V2.search, said)) else ModelProtocol.REST

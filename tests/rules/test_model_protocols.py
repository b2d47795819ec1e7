"""What images say about the protocol of their model."""

from __future__ import annotations

import json

import pytest

from pipeline.rules import manifests, model_protocols
from pipeline.rules.manifests import Manifest
from pipeline.rules.model_protocols import NAMED_BY, ModelProtocol
from tests.support.images import busybox_image
from tests.support.records import image

SPELT = ["v2", '["v2"]', '[["v2"]]', "['v1', 'v2']", "v1,v2", "v2,"]


@pytest.mark.parametrize("said", SPELT)
@pytest.mark.parametrize("member", ["image_labels", "image_annotations"])
def test_v2_means_grpc_wherever_and_however_it_is_spelt(member: str, said: str) -> None:
    told = image().model_copy(update={member: {NAMED_BY: said}})
    assert model_protocols.of_image(told) is ModelProtocol.GRPC


@pytest.mark.parametrize("labels", [{}, {NAMED_BY: ""}, {NAMED_BY: '["v1"]'}, {"other": "v2"}])
@pytest.mark.parametrize("more", ["v20", "grpcv2", "v2x"])
def test_everything_else_speaks_rest(labels: dict[str, str], more: str) -> None:
    for said in (labels, {NAMED_BY: more}):
        told = image().model_copy(update={"image_labels": said})
        assert model_protocols.of_image(told) is ModelProtocol.REST


def test_annotations_are_read_from_a_manifest() -> None:
    document = json.loads(busybox_image().manifest())
    plain = manifests.read_manifest(json.dumps(document).encode())
    document["annotations"] = {NAMED_BY: '["v2"]'}
    told = manifests.read_manifest(json.dumps(document).encode())
    assert isinstance(plain, Manifest)
    assert isinstance(told, Manifest)
    assert (plain.annotations, told.annotations) == ({}, {NAMED_BY: '["v2"]'})

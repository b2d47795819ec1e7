"""Everything that is wrong with an image is said at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.images import findings
from pipeline.ports import Layer, ResolvedImage
from schemas.image import Needs, Platform, ReferenceParts, Severity

DIGEST = "sha256:" + "0" * 64
PARTS = ReferenceParts(registry="h", repository="team/model", tag="1.0", digest=DIGEST)
GOOD = ResolvedImage(
    parts=PARTS,
    digest=DIGEST,
    platform=Platform(architecture="amd64"),
    size_bytes=1000,
    config_digest=DIGEST,
    layers=(Layer(DIGEST, 900, "application/vnd.oci.image.layer.v1.tar+gzip"),),
    labels={},
    env={},
    needs=Needs(ports=[8080]),
    has_healthcheck=True,
    command=("/serve",),
    user="1000",
)
FOREIGN = Layer(DIGEST, 1, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")


def codes(image: ResolvedImage) -> list[str]:
    return [finding.code for finding in findings.examine(image)]


def test_a_good_image_has_no_findings() -> None:
    assert codes(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "code", "severity"),
    [
        ({"command": ()}, "no_command", "error"),
        ({"missing": (DIGEST,)}, "layer_missing", "error"),
        ({"layers": ()}, "no_layers", "error"),
        ({"platform": Platform(architecture="s390x")}, "platform_unsupported", "error"),
        (
            {"platform": Platform(os="windows", architecture="amd64")},
            "platform_unsupported",
            "error",
        ),
        ({"layers": (FOREIGN,)}, "foreign_layer", "warning"),
        ({"needs": Needs()}, "no_port", "warning"),
        ({"env": {"NVIDIA_REQUIRE_X": "cuda >= 12"}}, "requirement_unreadable", "warning"),
        ({"parts": PARTS.model_copy(update={"tag": "latest"})}, "latest_tag", "warning"),
        ({"parts": PARTS.model_copy(update={"tag": None})}, "no_tag", "warning"),
        ({"has_healthcheck": False}, "no_healthcheck", "info"),
        ({"user": ""}, "runs_as_root", "info"),
        ({"user": "root:root"}, "runs_as_root", "info"),
        ({"user": "00:1"}, "runs_as_root", "info"),
        ({"size_bytes": findings.HUGE_BYTES + 1}, "huge", "info"),
    ],
)
def test_each_rule(changes: dict[str, object], code: str, severity: str) -> None:
    (finding,) = findings.examine(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.message.endswith(".")


def test_arm_images_are_fine() -> None:
    for variant in (None, "v8"):
        platform = Platform(architecture="arm64", variant=variant)
        assert codes(replace(GOOD, platform=platform)) == []


def test_all_findings_come_at_once_and_errors_first() -> None:
    bad = replace(
        GOOD,
        command=(),
        missing=("sha256:a", "sha256:b"),
        user="",
        has_healthcheck=False,
        needs=Needs(),
    )
    found = findings.examine(bad)
    assert [finding.code for finding in found] == [
        "layer_missing",
        "layer_missing",
        "no_command",
        "no_port",
        "no_healthcheck",
        "runs_as_root",
    ]
    assert [finding.severity for finding in found] == (
        [Severity.ERROR] * 3 + [Severity.WARNING] + [Severity.INFO] * 2
    )

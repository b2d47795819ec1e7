"""What may be asked for of an image or a container."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import ValidationError

from pipeline.containers import specs
from pipeline.containers.specs import GPU_SHM_BYTES, require_container, shm_bytes
from pipeline.errors import InvalidInput
from pipeline.images import specs as image_specs
from schemas.base import Shape
from schemas.container import Asset, ContainerSpec, VolumeMount
from schemas.image import ImageSpec, Needs

Cases = list[tuple[dict[str, Any], str]]
"""What is wrong, and the field that is named. Those `_BY_RULE` are about several members, or about
what no schema says."""
MIB = 2**20
GIB = 2**30


def container(**values: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"image": "model", **values})


IMAGES: Cases = [
    ({"needs": {"ports": [0]}}, "needs.ports"),
    ({"needs": {"ports": [70000]}}, "needs.ports"),
    ({"needs": {"ports": [-1]}}, "needs.ports"),
    ({"needs": {"ports": list(range(1, 1000))}}, "needs.ports"),
    ({"needs": {"cuda": "the newest"}}, "needs.cuda"),
    ({"needs": {"gpus": 10**30}}, "needs.gpus"),
    ({"needs": {"memory_bytes": 10**30}}, "needs.memory_bytes"),
    ({"platform": "x\0"}, "platform"),
    ({"platform": "a/b/c/d/e"}, "platform"),
    ({"platform": ""}, "platform"),
]
IMAGES_BY_RULE: Cases = [
    ({"needs": {"ports": [80, 80]}}, "needs.ports"),
    ({"labels": {"a\0": "b"}}, "labels"),
]


@pytest.mark.parametrize(("values", "field"), [*IMAGES, *IMAGES_BY_RULE])
def test_an_image_that_cannot_be_is_refused_by_its_field(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        image_specs.require_image(ImageSpec.model_validate({"reference": "model:1", **values}))
    assert refused.value.facts["field"] == field


CONTAINERS: Cases = [
    ({"env": {"": "a"}}, "env"),
    ({"env": {"A=B": "c"}}, "env"),
    ({"env": {"A\0": "b"}}, "env"),
    ({"env": {"A": "b\0"}}, "env"),
    ({"command": ["sh", "\0"]}, "command"),
    ({"resources": {"memory_bytes": 6 * MIB - 1}}, "resources.memory_bytes"),
    ({"resources": {"memory_bytes": 10**30}}, "resources.memory_bytes"),
    ({"resources": {"cpus": 0.001}}, "resources.cpus"),
    ({"resources": {"cpus_limit": 0.001}}, "resources.cpus_limit"),
    ({"ports": [{"internal": port} for port in range(1, 1000)]}, "ports"),
    ({"gpu_model": "!!!", "gpus": 1}, "gpu_model"),
    ({"gpu_model": "\0", "gpus": 1}, "gpu_model"),
    ({"gpu_model": "", "gpus": 1}, "gpu_model"),
    ({"gpu_model": "..", "gpus": 1}, "gpu_model"),
]
CONTAINERS_BY_RULE: Cases = [
    ({"env": {"NVIDIA_VISIBLE_DEVICES=all,": ""}}, "env"),
    ({"labels": {"a\0": "b"}}, "labels"),
    ({"labels": {"a": "\0"}}, "labels"),
    ({"node_labels": {"a\0": "b"}}, "node_labels"),
    ({"resources": {"cpus": float("inf")}}, "resources.cpus"),
    ({"ports": [{"internal": 80}, {"internal": 80, "host": 9}]}, "ports"),
    ({"ports": [{"internal": 80, "host": 9}, {"internal": 81, "host": 9}]}, "ports"),
    ({"env": {"NVIDIA_REQUIRE_CUDA": "cuda >= 12"}}, "env"),
]


@pytest.mark.parametrize(("values", "field"), [*CONTAINERS, *CONTAINERS_BY_RULE])
def test_a_container_that_cannot_be_is_refused_by_its_field(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        specs.require_container(container(**values))
    assert refused.value.facts["field"] == field


@pytest.mark.parametrize("values", [{}, {"gpus": 0}])
def test_a_model_of_gpu_without_a_gpu_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        specs.require_completed(container(gpu_model="h100", **values))
    assert refused.value.facts["field"] == "gpu_model"


def test_what_may_be_asked_for_is_let_through() -> None:
    full = container(
        command=["sh", "-c", "echo =a\nb"],
        env={"A": "b=c", "lower.case-name": "", "NVIDIA_REQUIRE_CUDA": "cuda>=12 driver>=1"},
        labels={"": "", "a.b": "$c"},
        resources={"memory_bytes": 6 * MIB, "cpus": 0.5},
        ports=[
            {"internal": 53, "host": 9, "protocol": "udp"},
            {"internal": 53, "host": 9},
            {"internal": 80},
            {"internal": 81},
        ],
        gpus=1,
        gpu_model="nvidia",
        health={"port": 80},
    )
    specs.require_container(full)
    specs.require_completed(full)
    needs = {"ports": [1, 65535], "gpus": 1024, "memory_bytes": 1, "cuda": "12.1"}
    asked = {"reference": "model", "needs": needs, "platform": "linux/arm64/v8"}
    image_specs.require_image(ImageSpec.model_validate(asked))


def test_what_an_image_exposes_is_published_as_far_as_it_can_be() -> None:
    ports = [port.internal for port in specs.exposed(Needs(ports=[0, 70000, -1, 80, 80, 9000]))]
    assert ports == [80, 9000]
    assert len(specs.exposed(Needs(ports=list(range(1, 65536))))) == image_specs.PORTS_MAX


def spec(**values: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"image": "model"} | values)


def test_what_model_servers_ask_for_is_taken() -> None:
    require_container(
        spec(
            shm_size_bytes=16 * GIB,
            ulimits={"memlock": {"soft": -1, "hard": -1}, "stack": {"soft": 1, "hard": 2**26}},
            ipc="shareable",
            entrypoint=["/bin/serve", "--x"],
            working_dir="/work",
            user="1000:1000",
            tmpfs={"/tmp": GIB, "/development": GIB},
            volumes=[VolumeMount(path="/data"), VolumeMount(path="/data/sub", read_only=True)],
            read_only=True,
            extra_hosts={"db.local": "10.0.0.1", "six": "::1"},
            stop_signal="SIGINT",
            stop_grace_s=120,
        )
    )


SET_UPS: Cases = [
    ({"shm_size_bytes": 1}, "shm_size_bytes"),
    ({"ulimits": {"files": {"soft": 1, "hard": 1}}}, "ulimits"),
    ({"ulimits": {"nofile": {"soft": -2, "hard": -1}}}, "ulimits.nofile"),
    ({"ulimits": {"nofile": {"soft": 1, "hard": 2**63}}}, "ulimits.nofile"),
    ({"entrypoint": []}, "entrypoint"),
    ({"entrypoint": [""]}, "entrypoint"),
    ({"entrypoint": ["a\0b"]}, "entrypoint"),
    ({"working_dir": "work"}, "working_dir"),
    ({"working_dir": "/work/../etc"}, "working_dir"),
    ({"user": "root; id"}, "user"),
    ({"user": ""}, "user"),
    *(
        ({"volumes": [VolumeMount(path=path)]}, "volumes")
        for path in ("/", "data", "/a/../b", "/./a", "//a", "/a/", "/a//b", "/a:ro", "/a\0")
    ),
    *(
        ({"volumes": [VolumeMount(path=path)]}, "volumes")
        for path in ("/proc", "/dev/shm", "/sys/fs", "/modelyard", "/modelyard/assets/x")
    ),
    *(
        ({"assets": [Asset(env_key="W", url=url)]}, "assets")
        for url in ("ftp://a/b", "file:///etc/passwd", "http://", "/a", "http://u:p@a/b")
    ),
    ({"assets": [Asset(env_key="W", url="http://a/b c")]}, "assets"),
    ({"assets": [Asset(env_key="1=", url="http://a/b")]}, "assets"),
    ({"assets": [Asset(env_key="W", url="http://a/b", sha256="x")]}, "assets"),
    ({"volumes": [VolumeMount(path=f"/{n}") for n in range(33)]}, "volumes"),
    ({"tmpfs": {"/": GIB}}, "tmpfs"),
    ({"tmpfs": {"/dev/shm": GIB}}, "tmpfs"),
    ({"tmpfs": {"/proc": GIB}}, "tmpfs"),
    ({"tmpfs": {"/a,exec": GIB}}, "tmpfs"),
    ({"tmpfs": {"/a:rw": GIB}}, "tmpfs"),
    ({"tmpfs": {"/a": 0}}, "tmpfs"),
    ({"tmpfs": {f"/{n}": GIB for n in range(33)}}, "tmpfs"),
    ({"extra_hosts": {"host": "host-gateway"}}, "extra_hosts"),
    ({"extra_hosts": {"a b": "10.0.0.1"}}, "extra_hosts"),
    ({"extra_hosts": {"": "10.0.0.1"}}, "extra_hosts"),
    ({"stop_signal": "TERM"}, "stop_signal"),
    ({"stop_signal": "SIGNOTHING"}, "stop_signal"),
    ({"stop_grace_s": -1}, "stop_grace_s"),
    ({"stop_grace_s": 3601}, "stop_grace_s"),
]
SET_UPS_BY_RULE: Cases = [
    ({"shm_size_bytes": GIB, "resources": {"memory_bytes": GIB // 2}}, "shm_size_bytes"),
    ({"resources": {"cpus": 2, "cpus_limit": 1.5}}, "resources.cpus_limit"),
    ({"ulimits": {"nofile": {"soft": 2, "hard": 1}}}, "ulimits.nofile"),
    ({"ulimits": {"nofile": {"soft": -1, "hard": 1}}}, "ulimits.nofile"),
    ({"assets": [Asset(env_key="W", url="http://a/b")], "env": {"W": "x"}}, "assets"),
    ({"volumes": [VolumeMount(path="/a"), VolumeMount(path="/a", read_only=True)]}, "volumes"),
    ({"volumes": [VolumeMount(path="/a")], "tmpfs": {"/a": GIB}}, "volumes"),
    ({"ipc": "shareable", "ipc_with": "other"}, "ipc_with"),
    (
        {"assets": [Asset(env_key="W", url="http://a/b"), Asset(env_key="W", url="http://a")]},
        "assets",
    ),
]


@pytest.mark.parametrize(("wrong", "field"), [*SET_UPS, *SET_UPS_BY_RULE])
def test_what_makes_no_sense_is_refused_by_its_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        require_container(spec(**wrong))
    assert refused.value.facts["field"] == field


@pytest.mark.parametrize(
    "wrong",
    [
        {"privileged": True},
        {"volumes": ["/:/host"]},
        {"binds": ["/etc:/etc"]},
        {"network_mode": "host"},
        {"pid": "host"},
        {"cap_add": ["SYS_ADMIN"]},
        {"devices": ["/dev/sda"]},
        {"security_opt": ["seccomp=unconfined"]},
        {"ipc": "host"},
        {"ipc": "container:of-somebody"},
    ],
)
def test_what_reaches_into_the_host_cannot_be_asked_for(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**wrong)


@pytest.mark.parametrize(
    ("values", "gpus", "expected"),
    [
        ({}, 0, None),
        ({}, 1, GPU_SHM_BYTES),
        ({"resources": {"memory_bytes": 4 * GIB}}, 1, 2 * GIB),
        ({"resources": {"memory_bytes": 64 * GIB}}, 8, GPU_SHM_BYTES),
        ({"shm_size_bytes": GIB}, 1, GIB),
        ({"shm_size_bytes": GIB}, 0, GIB),
        ({"ipc_with": "other"}, 1, None),
    ],
)
def test_containers_with_gpus_get_shared_memory_that_suffices(
    values: dict[str, Any], gpus: int, expected: int | None
) -> None:
    assert shm_bytes(spec(**values), gpus) == expected


def is_announced(shape: type[Shape], value: Shape) -> bool:
    """Says the schema that it is taken?"""
    schema = Draft202012Validator(shape.model_json_schema(), format_checker=FormatChecker())
    return bool(schema.is_valid(value.model_dump(mode="json")))


@pytest.mark.parametrize("values", [values for values, _ in [*CONTAINERS, *SET_UPS]])
def test_what_one_member_of_a_container_may_be_is_in_the_schema(values: dict[str, Any]) -> None:
    assert not is_announced(ContainerSpec, spec(**values))


@pytest.mark.parametrize("values", [values for values, _ in IMAGES])
def test_what_one_member_of_an_image_may_be_is_in_the_schema(values: dict[str, Any]) -> None:
    assert not is_announced(ImageSpec, ImageSpec.model_validate({"reference": "a", **values}))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"resources": {"memory_bytes": 6 * MIB, "cpus": 0.01}},
        {"resources": {"memory_bytes": 2**60, "cpus": 65536}},
        {"resources": {"cpus": 0.5, "cpus_limit": 0.5}},
        {"resources": {"cpus_limit": 2}},
        {"ulimits": {"memlock": {"soft": -1, "hard": -1}, "stack": {"soft": 0, "hard": 2**63 - 1}}},
        {"tmpfs": {"/tmp/.a/..b/...": 2**16, "/development": 2**60, "/a//b/": GIB}},
        {"volumes": [VolumeMount(path="/data/.sub")], "working_dir": "/", "user": "a:0"},
        {"extra_hosts": {"db.local": "10.0.0.1", "six": "::1"}, "stop_signal": "SIGUSR1"},
        {"assets": [Asset(env_key="_W", url="HTTPS://a:1?b=c", sha256="0" * 64)]},
        *({"stop_signal": name} for name in signal.Signals.__members__),
        {"gpu_model": "a", "env": {"a b": "\n"}, "entrypoint": ["a"], "command": [""]},
    ],
)
def test_the_schema_refuses_nothing_that_is_taken(values: dict[str, Any]) -> None:
    require_container(spec(**values))
    assert is_announced(ContainerSpec, spec(**values))


def test_the_schema_of_an_image_takes_what_it_may_need() -> None:
    needs = {"ports": [1, 65535], "gpus": 1024, "memory_bytes": 2**60, "cuda": "", "driver": " 1"}
    asked = ImageSpec.model_validate({"reference": "a", "needs": needs})
    image_specs.require_image(asked)
    assert is_announced(ImageSpec, asked)

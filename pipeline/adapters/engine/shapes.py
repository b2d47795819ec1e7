"""Between the Engine API's words and our values: JSON, times, a container's output. Pure."""

from __future__ import annotations

import base64
import codecs
import json
import re
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pipeline.errors import EngineError
from pipeline.ports import (
    Credentials,
    EngineContainer,
    EngineEvent,
    EngineInfo,
    EngineUse,
    ExecPlan,
    LaunchOptions,
    LaunchPlan,
    LogLine,
)
from schemas.container import PortBinding
from schemas.image import Platform

Json = Any

LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
"""30 MB of output per container at most; json-file because it can be followed."""

EVENT_ACTIONS = (
    *("create", "start", "die", "oom", "stop", "kill", "destroy"),
    *("pause", "unpause", "restart", "rename", "health_status"),
)
"""Without exec_*, which every health check would send three of."""

_NOT_LABELS = frozenset({"image", "name", "exitCode", "signal", "oldName", "execDuration"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_HEADER = struct.Struct(">BxxxL")
_LONGEST_LINE = 64 * 1024
"""An engine cuts lines at 16 KiB; only a terminal's output can be longer without a newline."""

Stream = Literal["stdout", "stderr"]
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def creation(plan: LaunchPlan) -> Json:
    """The body of POST /containers/create."""
    return _program(plan.options) | {
        "Image": plan.image,
        "Cmd": list(plan.command) or None,
        "Env": [f"{name}={value}" for name, value in plan.env.items()],
        "Labels": dict(plan.labels),
        "ExposedPorts": {_port_key(port): {} for port in plan.ports},
        "HostConfig": _host_config(plan),
    }


def _program(options: LaunchOptions) -> Json:
    chosen = {
        "Entrypoint": list(options.entrypoint) or None,
        "WorkingDir": options.working_dir,
        "User": options.user,
        "StopSignal": options.stop_signal,
        "StopTimeout": options.stop_grace_s,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _isolation(options: LaunchOptions) -> Json:
    limits = [
        {"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in options.ulimits.items()
    ]
    chosen = {
        "ShmSize": options.shm_bytes,
        "Ulimits": limits or None,
        "Tmpfs": {path: f"size={size}" for path, size in options.tmpfs.items()} or None,
        "ExtraHosts": [f"{host}:{ip}" for host, ip in options.extra_hosts.items()] or None,
        "ReadonlyRootfs": options.read_only or None,
    }
    return {name: value for name, value in chosen.items() if value is not None} | {
        "IpcMode": options.ipc
    }


def _host_config(plan: LaunchPlan) -> Json:
    bindings: dict[str, list[Json]] = {}
    for port in plan.ports:
        place = {"HostIp": port.address, "HostPort": str(port.host or "")}
        bindings.setdefault(_port_key(port), []).append(place)
    return _isolation(plan.options) | {
        "PortBindings": bindings,
        "Memory": plan.memory_bytes,
        # Equal to Memory: no swap. Left out, an engine grants as much swap again as memory.
        "MemorySwap": plan.memory_bytes,
        "NanoCpus": round(plan.cpus * 10**9),
        "DeviceRequests": _device_requests(plan),
        "Mounts": [
            {
                "Type": "bind" if mount.is_file else "volume",
                "Source": mount.source,
                "Target": mount.path,
                "ReadOnly": mount.read_only,
            }
            for mount in plan.mounts
        ],
        # Restarts are decided by the node agent, which counts and spaces them.
        "RestartPolicy": {"Name": "no"},
        "LogConfig": LOG_CONFIG,
    }


def _device_requests(plan: LaunchPlan) -> list[Json]:
    if not plan.gpu_devices:
        return []
    return [{"Driver": "", "DeviceIDs": list(plan.gpu_devices), "Capabilities": [["gpu"]]}]


def _port_key(port: PortBinding) -> str:
    return f"{port.internal}/{port.protocol}"


def container(found: Json) -> EngineContainer:
    """From GET /containers/{id}/json."""
    state = found["State"]
    ended = state["Status"] in ("exited", "dead")
    return EngineContainer(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        labels=found["Config"].get("Labels") or {},
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status") or "none",
        exit_code=state["ExitCode"] if ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        ports=tuple(_ports(found)),
        started_at=parse_moment(state.get("StartedAt")),
        finished_at=parse_moment(state.get("FinishedAt")),
        image_id=found["Image"],
        stop_grace_s=found["Config"].get("StopTimeout"),
    )


def use(found: Json) -> EngineUse | None:
    """From GET /containers/{id}/stats; None of one that does not run, which has no memory."""
    at_ns, memory = parse_ns(found.get("read") or ""), found.get("memory_stats") or {}
    processor = found.get("cpu_stats") or {}
    if at_ns is None or not memory.get("limit"):
        return None
    kinds = memory.get("stats") or {}
    # The names of cgroups v2 and v1: https://docs.docker.com/reference/cli/docker/container/stats/.
    cached = kinds.get("inactive_file", kinds.get("total_inactive_file", 0))
    networks = (found.get("networks") or {}).values()
    return EngineUse(
        at_ns=at_ns,
        cpu_ns=processor["cpu_usage"]["total_usage"],
        cpus=processor.get("online_cpus") or 1,
        memory_bytes=max(memory["usage"] - cached, 0),
        memory_limit_bytes=memory["limit"],
        network_received_bytes=sum(each.get("rx_bytes", 0) for each in networks),
        network_sent_bytes=sum(each.get("tx_bytes", 0) for each in networks),
    )


def _ports(found: Json) -> Iterator[PortBinding]:
    """As bound now; for a container that does not run, as asked for with a fixed host port."""
    actual = (found.get("NetworkSettings") or {}).get("Ports") or {}
    asked = (found.get("HostConfig") or {}).get("PortBindings") or {}
    for key, places in (actual or asked).items():
        internal, _, protocol = key.partition("/")
        for place in places or ():
            if int(place.get("HostPort") or 0):
                yield PortBinding(
                    internal=int(internal),
                    host=int(place["HostPort"]),
                    protocol=protocol or "tcp",
                    address=place.get("HostIp") or "0.0.0.0",
                )


def event(found: Json) -> EngineEvent:
    """From a line of GET /events; the health rides in the action: `health_status: healthy`."""
    action, _, health = found["Action"].partition(": ")
    facts = found["Actor"].get("Attributes") or {}
    exit_code = facts.get("exitCode")
    return EngineEvent(
        action=action,
        id=found["Actor"]["ID"],
        name=facts.get("name", ""),
        labels={name: value for name, value in facts.items() if name not in _NOT_LABELS},
        exit_code=None if exit_code is None else int(exit_code),
        health=health or None,
        time=at(found["timeNano"]),
        time_ns=found["timeNano"],
    )


def info(system: Json, version: Json) -> EngineInfo:
    """From GET /info and GET /version."""
    architecture = version.get("Arch") or system.get("Architecture") or ""
    return EngineInfo(
        version=version["Version"],
        api_version=version["ApiVersion"],
        platform=Platform(
            os=version.get("Os") or "linux",
            architecture=_ARCHITECTURES.get(architecture, architecture),
        ),
        cpus=system["NCPU"],
        memory_bytes=system["MemTotal"],
        id=system.get("ID") or None,
    )


def exec_creation(plan: ExecPlan) -> Json:
    """The body of POST /containers/{id}/exec."""
    chosen = {"WorkingDir": plan.working_dir, "User": plan.user}
    return {name: value for name, value in chosen.items() if value is not None} | {
        "Cmd": list(plan.command),
        "Env": [f"{name}={value}" for name, value in plan.env.items()],
        "AttachStdout": True,
        "AttachStderr": True,
    }


def label_filters(labels: Mapping[str, str]) -> str:
    """The `filters` parameter: containers that carry every given label."""
    return json.dumps({"label": _label_terms(labels)})


def event_filters(labels: Mapping[str, str]) -> str:
    """The `filters` parameter: what happens to such containers."""
    return json.dumps(
        {"type": ["container"], "event": EVENT_ACTIONS, "label": _label_terms(labels)}
    )


def end_filters(id: str) -> str:
    """The `filters` parameter: what ends one container, and its end."""
    return json.dumps({"type": ["container"], "event": ["kill", "die"], "container": [id]})


def clock(system: Json) -> datetime:
    """The engine's own time, from GET /info, not before what it has told until then."""
    moment = parse_moment(system.get("SystemTime"))
    if moment is None:
        raise EngineError("The engine does not say what time it is.")
    # Cut to microseconds it would be before the newest event.
    return moment + timedelta(microseconds=1)


def _label_terms(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def registry_auth(credentials: Credentials | None) -> dict[str, str]:
    """The X-Registry-Auth header. Without credentials an explicit nobody, never a stored login."""
    login = {}
    if credentials:
        login = {
            "username": credentials.username,
            "password": credentials.password,
            "serveraddress": credentials.server,
        }
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}


def split_reference(reference: str) -> tuple[str, str]:
    """Name and what to pull of it: the digest where there is one, else the tag or `latest`."""
    name, _, digest = reference.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, "latest"
    return head, digest or tag


def pulled_name(reference: str) -> str:
    """What the engine knows a pulled reference by."""
    name, version = split_reference(reference)
    return f"{name}{'@' if ':' in version else ':'}{version}"


def pull_params(reference: str, platform: str | None) -> dict[str, str]:
    name, version = split_reference(reference)
    return {"fromImage": name, "tag": version} | ({"platform": platform} if platform else {})


def log_params(*, tail: int | None, since: datetime | None, follow: bool) -> dict[str, str]:
    params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
    params |= {"follow": str(int(follow)), "tail": "all" if tail is None else str(tail)}
    return params | ({"since": written(since)} if since else {})


# --- decoders of streams, and times -------------------------------------------------------------


class JsonLines:
    """Feed it a stream of JSON values, one a line, in any cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Any]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)


def frames(held: bytes) -> tuple[list[tuple[Stream, bytes]], bytes]:
    """What a container without a terminal wrote, by stream, and the rest that is not whole yet."""
    found: list[tuple[Stream, bytes]] = []
    position = 0
    while len(held) - position >= _HEADER.size:
        stream, size = _HEADER.unpack_from(held, position)
        end = position + _HEADER.size + size
        if len(held) < end:
            break
        content = held[position + _HEADER.size : end]
        found.append(("stderr" if stream == 2 else "stdout", content))
        position = end
    return found, held[position:]


class LogDecoder:
    """Feed it the pieces of GET /containers/{id}/logs with `timestamps=1`, in any cut.

    The engine says only since API 1.42 whether the container has a terminal. Its frames begin
    with a byte 0, 1 or 2, a terminal's lines with the digit of a year: the first byte tells.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._framed: bool | None = None
        self._last_ns = 0
        decoder = codecs.getincrementaldecoder("utf-8")
        self._text = {"stdout": decoder("replace"), "stderr": decoder("replace")}

    def feed(self, piece: bytes) -> Iterator[LogLine]:
        self._rest += piece
        if self._framed is None and self._rest:
            self._framed = self._rest[0] < 3
        yield from self._frames() if self._framed else self._lines()

    def finish(self) -> Iterator[LogLine]:
        """What a terminal wrote last without a newline."""
        if self._rest and not self._framed:
            yield self._line("stdout", self._rest)
            self._rest = b""

    def _frames(self) -> Iterator[LogLine]:
        found, self._rest = frames(self._rest)
        for stream, content in found:
            yield self._line(stream, content)

    def _lines(self) -> Iterator[LogLine]:
        *whole, self._rest = self._rest.split(b"\n")
        for line in whole:
            yield self._line("stdout", line + b"\n")
        if len(self._rest) > _LONGEST_LINE:
            yield self._line("stdout", self._rest)
            self._rest = b""

    def _line(self, stream: Stream, content: bytes) -> LogLine:
        stamp, _, text = content.partition(b" ")
        time_ns = parse_ns(stamp.decode("ascii", "replace"))
        if time_ns is None:  # the rest of a long line: it has the time of its beginning
            time_ns, text = self._last_ns, content
        self._last_ns = time_ns
        return LogLine(stream, at(time_ns), time_ns, self._text[stream].decode(text))


def parse_ns(text: str) -> int | None:
    """Nanoseconds since 1970 of RFC 3339 with up to nine digits after the second; else None."""
    found = _RFC3339.match(text)
    if not found:
        return None
    seconds, fraction, zone = found.groups()
    whole = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return (whole - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "").ljust(9, "0"))


def at(time_ns: int) -> datetime:
    """UTC, cut to whole microseconds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def parse_moment(text: str | None) -> datetime | None:
    """None for a missing time and for Go's zero time, year 1."""
    time_ns = parse_ns(text or "")
    return None if time_ns is None or time_ns < 0 else at(time_ns)


def written(moment: datetime) -> str:
    """The form that `since` parameters take: `seconds.nanoseconds`, exact."""
    micros = (moment - _EPOCH) // timedelta(microseconds=1)
    return f"{micros // 10**6}.{micros % 10**6:06d}000"

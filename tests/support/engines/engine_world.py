"""An engine that keeps containers and images in memory and speaks the Engine API.

What a test wants to go wrong it says in plain words: ports that are taken, a disk that is full, a
pull that stands still. Everything else works, and happens at once.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from tests.support.engines.fake_engine import Exchange, FakeEngine

NEVER = "0001-01-01T00:00:00Z"
EVENTS_MAX = 256
"""As many of its newest events, of whatever kind, as Docker remembers."""


@dataclass
class Made:
    """One container."""

    id: str
    name: str
    spec: dict[str, Any]
    status: str = "created"
    exit_code: int = 0
    health: str = ""
    error: str = ""
    started_at: str = NEVER
    starts: int = 0
    written: list[tuple[int, bytes]] = field(default_factory=list)
    """Times and frames of its output."""
    counted: dict[str, Any] = field(default_factory=dict)
    """Its statistics."""
    listeners: list[Exchange] = field(default_factory=list)
    """Who follows its output."""

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.spec.get("Labels") or {})

    @property
    def host_ports(self) -> list[int]:
        places = self.spec["HostConfig"]["PortBindings"].values()
        return [int(place["HostPort"]) for each in places for place in each]

    @property
    def volumes(self) -> dict[str, str]:
        """Name → path."""
        mounts = self.spec["HostConfig"].get("Mounts", [])
        return {each["Source"]: each["Target"] for each in mounts}

    def shown(self) -> dict[str, Any]:
        state = {
            "Status": self.status,
            "ExitCode": self.exit_code,
            "Error": self.error,
            "StartedAt": self.started_at,
            "FinishedAt": NEVER,
        }
        if self.health:
            state["Health"] = {"Status": self.health}
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Image": "sha256:0",
            "Config": {"Labels": self.labels, "StopTimeout": self.spec.get("StopTimeout")},
            "State": state,
            "HostConfig": self.spec["HostConfig"],
            "NetworkSettings": {"Ports": {}},
        }


@dataclass
class EngineWorld(FakeEngine):
    """`pull` says how a pull goes: `works`, `stalls`, or the words of an error."""

    containers: dict[str, Made] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    volumes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name → labels."""
    taken_ports: set[int] = field(default_factory=set)
    refusals: dict[str, str] = field(default_factory=dict)
    """`create` or `start` → the words with which the engine refuses it."""
    pull: str = "works"
    pulls: list[Exchange] = field(default_factory=list)
    readers: list[Exchange] = field(default_factory=list)
    """Who follows the events."""
    down: bool = False
    dies_after: str = ""
    """The end of a POST's path, or `delete`: who made that call dies with the answer to it."""
    id: str = "engine-1"
    told: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    """The events that this run of the engine remembers."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # --- what somebody does at the machine

    def only(self) -> Made:
        (made,) = self.containers.values()
        return made

    def write(self, made: Made, text: str | bytes, *, to: int = 1, at_ns: int = 0) -> None:
        """It writes a line, or a part of one, to stdout (1) or stderr (2)."""
        at_ns = at_ns or time.time_ns()
        seconds, rest = divmod(at_ns, 10**9)
        stamp = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z "
        content = stamp.encode() + (text.encode() if isinstance(text, str) else text)
        made.written.append((at_ns, struct.pack(">BxxxL", to, len(content)) + content))
        for listener in made.listeners:
            listener.chunk(made.written[-1][1])

    def cut_output(self, made: Made) -> None:
        """Every follower loses it."""
        for listener in made.listeners:
            listener.writer.close()
        made.listeners.clear()

    def die(self, made: Made, code: int) -> None:
        made.status, made.exit_code = "exited", code
        for listener in made.listeners:
            listener.end()
        self.cut_output(made)
        self.tell(made, "die", exitCode=str(code))

    def stop(self, made: Made, code: int) -> None:
        """Somebody stops it at the engine, and so does an engine that is stopped itself."""
        self.tell(made, "kill", signal="15")
        self.die(made, code)

    def restart(self, code: int, *, kills: bool = False) -> None:
        """The engine is another process, and nothing of before runs: it was stopped cleanly, or
        killed (then it `kills` what it finds running), or the machine lost its power."""
        self.told.clear()
        for made in self.containers.values():
            if made.status == "running" and kills:
                self.stop(made, code)
            elif made.status == "running":
                made.status, made.exit_code, made.health = "exited", code, ""
        self.cut()

    def sicken(self, made: Made) -> None:
        made.health = "unhealthy"
        self.tell(made, "health_status: unhealthy")

    def lose(self, made: Made) -> None:
        """It is removed by hand."""
        del self.containers[made.id]
        self.tell(made, "destroy")

    def make(self, name: str, **labels: str) -> Made:
        """A container that somebody else made."""
        spec = {"Labels": labels, "HostConfig": {"PortBindings": {}}}
        made = Made(f"{next(self._numbers):064x}", name, spec)
        self.containers[made.id] = made
        return made

    def tell(self, made: Made, action: str, **facts: str) -> None:
        attributes = made.labels | {"name": made.name} | facts
        actor = {"ID": made.id, "Attributes": attributes}
        line = {"Type": "container", "Action": action, "Actor": actor, "timeNano": time.time_ns()}
        self.told.append(line)
        for reader in self.readers:
            reader.chunk(json.dumps(line).encode() + b"\n")

    def cut(self) -> None:
        """Every event stream ends."""
        for reader in self.readers:
            reader.writer.close()
        self.readers.clear()

    # --- what it answers

    async def _usual(self, exchange: Exchange) -> None:
        if self.down:
            exchange.json(503, {"message": "shutting down"})
            return
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, unquote(exchange.path))
            if found and method == exchange.method:
                await answer(self, exchange, *found.groups())
                end = exchange.path.rpartition("/")[2] if method == "POST" else method.lower()
                if end == self.dies_after:
                    self.dies_after, self.down = "", True
                return
        await super()._usual(exchange)

    async def _info(self, exchange: Exchange) -> None:
        clock = datetime.now(UTC).isoformat()
        machine = {"ID": self.id, "NCPU": 8, "MemTotal": 64 * 2**30, "SystemTime": clock}
        exchange.json(200, machine)

    async def _version(self, exchange: Exchange) -> None:
        versions = {"ApiVersion": self.api_version, "MinAPIVersion": self.min_api_version}
        exchange.json(200, versions | {"Version": "20.10.5", "Os": "linux", "Arch": "amd64"})

    async def _all_images(self, exchange: Exchange) -> None:
        # It never builds: of what builds leave there is nothing.
        whole = [] if "filters" in exchange.query else [{"RepoDigests": sorted(self.images)}]
        exchange.json(200, whole)

    async def _image(self, exchange: Exchange, name: str) -> None:
        if name in self.images:
            exchange.json(200, {"Id": "sha256:0"})
        else:
            exchange.json(404, {"message": f"No such image: {name}"})

    async def _pull(self, exchange: Exchange) -> None:
        self.pulls.append(exchange)
        exchange.begin()
        for done in (1, 50) if self.pull == "stalls" else (1, 50, 100):
            detail = {"current": done, "total": 100}
            line = {"status": "Downloading", "id": "layer", "progressDetail": detail}
            exchange.chunk(json.dumps(line).encode() + b"\n")
        await exchange.writer.drain()
        if self.pull == "stalls":
            await exchange.closed.wait()
        elif self.pull == "works":
            joint = "@" if ":" in exchange.query["tag"] else ":"
            self.images.add(exchange.query["fromImage"] + joint + exchange.query["tag"])
        else:
            exchange.chunk(json.dumps({"error": self.pull}).encode() + b"\n")
        exchange.end()

    async def _list(self, exchange: Exchange) -> None:
        wanted = json.loads(exchange.query["filters"])["label"]
        have = [
            made.id
            for made in self.containers.values()
            if set(wanted) <= {f"{name}={value}" for name, value in made.labels.items()}
        ]
        exchange.json(200, [{"Id": id} for id in have])

    async def _create(self, exchange: Exchange) -> None:
        spec, name = json.loads(exchange.body), exchange.query["name"]
        holder = self._find(name)
        if (words := self.refusals.get("create")) is not None:
            exchange.json(500, {"message": words})
        elif holder is not None:
            words = f'The container name "/{name}" is already in use by container "{holder.id}".'
            exchange.json(409, {"message": words})
        elif spec["Image"] not in self.images:
            exchange.json(404, {"message": f"No such image: {spec['Image']}"})
        else:
            made = Made(f"{next(self._numbers):064x}", name, spec)
            self.containers[made.id] = made
            exchange.json(201, {"Id": made.id})

    async def _start(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
            return
        taken = self.taken_ports.intersection(made.host_ports)
        if taken:
            made.error = f"Bind for 127.0.0.1:{min(taken)} failed: port is already allocated"
        else:
            made.error = self.refusals.get("start", "")
        if made.error:
            exchange.json(500, {"message": made.error})
            return
        made.status, made.starts = "running", made.starts + 1
        made.started_at = datetime.now(UTC).isoformat()
        exchange.send("X-Done: yes", 204, b"")
        self.tell(made, "start")

    async def _inspect(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
        else:
            exchange.json(200, made.shown())

    async def _stop(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
            return
        if made.status == "running":
            made.health = ""
            self.stop(made, 143)
        exchange.send("X-Done: yes", 204, b"")

    async def _remove(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
            return
        self.lose(made)
        exchange.send("X-Done: yes", 204, b"")

    async def _rename(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
        else:
            made.name = exchange.query["name"]
            exchange.send("X-Done: yes", 204, b"")

    async def _output(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
            return
        exchange.begin()
        since_ns = int(exchange.query.get("since", "0").replace(".", ""))
        for at_ns, frame in made.written:
            if at_ns >= since_ns:
                exchange.chunk(frame)
        if made.status != "running" or exchange.query["follow"] == "0":
            exchange.end()
            return
        made.listeners.append(exchange)
        await exchange.closed.wait()
        if exchange in made.listeners:
            made.listeners.remove(exchange)

    async def _stats(self, exchange: Exchange, id: str) -> None:
        made = self._find(id)
        if made is None:
            exchange.json(404, {"message": f"No such container: {id}"})
        else:
            exchange.json(200, made.counted)

    async def _create_volume(self, exchange: Exchange) -> None:
        asked = json.loads(exchange.body)
        labels = self.volumes.setdefault(asked["Name"], asked["Labels"])
        exchange.json(201, {"Name": asked["Name"], "Labels": labels})

    async def _remove_volume(self, exchange: Exchange, name: str) -> None:
        if any(name in made.volumes for made in self.containers.values()):
            exchange.json(409, {"message": f"remove {name}: volume is in use"})
        elif self.volumes.pop(name, None) is None:
            exchange.json(404, {"message": f"get {name}: no such volume"})
        else:
            exchange.send("X-Done: yes", 204, b"")

    async def _events(self, exchange: Exchange) -> None:
        exchange.begin()
        if "until" in exchange.query:
            self._recall(exchange)
            return
        await exchange.writer.drain()
        self.readers.append(exchange)
        await exchange.closed.wait()
        if exchange in self.readers:
            self.readers.remove(exchange)

    def _recall(self, exchange: Exchange) -> None:
        wanted = json.loads(exchange.query["filters"])
        since_ns = int(exchange.query["since"].replace(".", ""))
        for line in self.told:
            is_asked = line["Actor"]["ID"] in wanted["container"]
            if is_asked and line["Action"] in wanted["event"] and line["timeNano"] >= since_ns:
                exchange.chunk(json.dumps(line).encode() + b"\n")
        exchange.end()

    def _find(self, id_or_name: str) -> Made | None:
        found = (m for m in self.containers.values() if id_or_name in (m.id, m.name))
        return next(found, None)


_ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/info", EngineWorld._info),
    ("GET", "/version", EngineWorld._version),
    ("GET", "/images/json", EngineWorld._all_images),
    ("GET", "/images/(.+)/json", EngineWorld._image),
    ("POST", "/images/create", EngineWorld._pull),
    ("GET", "/containers/json", EngineWorld._list),
    ("POST", "/containers/create", EngineWorld._create),
    ("GET", "/containers/(.+)/json", EngineWorld._inspect),
    ("GET", "/containers/(.+)/logs", EngineWorld._output),
    ("GET", "/containers/(.+)/stats", EngineWorld._stats),
    ("POST", "/containers/(.+)/start", EngineWorld._start),
    ("POST", "/containers/(.+)/stop", EngineWorld._stop),
    ("POST", "/containers/(.+)/rename", EngineWorld._rename),
    ("DELETE", "/containers/([^/]+)", EngineWorld._remove),
    ("POST", "/volumes/create", EngineWorld._create_volume),
    ("DELETE", "/volumes/(.+)", EngineWorld._remove_volume),
    ("GET", "/events", EngineWorld._events),
)

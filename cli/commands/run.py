"""`modelyard containers run`: what is asked of a container, and how it comes to run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from cli.client import Client, Named, given
from cli.console import (
    FAILED,
    ID,
    AsJsonOrTable,
    Column,
    Wide,
    age,
    as_document,
    echo,
    err,
    field,
    json_or_table,
    labels,
    out,
    refuse,
    short_id,
)
from cli.content import published
from cli.probes import finite, probed
from cli.progress import follow, has_settled

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"([0-9]{1,15})([bkmgt]?)", re.IGNORECASE)
_LIMIT = re.compile(r"([a-z]+)=(-1|[0-9]{1,19})(?::(-1|[0-9]{1,19}))?")


MOST_MEMORY_MIB = 2**30
"""A pebibyte."""
OVER = {"FAILED", "STOPPED", "LOST", "DELETED"}
ENDS = {"RUNNING", "UNHEALTHY", *OVER}
COLUMNS: list[Column] = [
    (ID, short_id),
    ("NAME", field("name")),
    ("IMAGE", lambda item: item.get("image_name") or item["spec"]["image"]),
    ("NODE", lambda item: item.get("node_name") or item["node"]),
    ("STATUS", field("status")),
    ("PORTS", lambda item: _ports(item)),
    ("GPUS", lambda item: _gpus(item)),
    ("DEPLOYMENT", Wide(field("deployment"))),
    ("ENGINE ID", Wide(field("engine_id"))),
    ("LABELS", Wide(labels("spec.labels"))),
    ("CREATED", Wide(field("created_at"))),
    ("RESTARTS", lambda item: item["restarts"] or ""),
    ("AGE", age("created_at")),
    ("REASON", field("reason")),
]


Timeout = Annotated[
    float | None, typer.Option(min=0, callback=finite, help="Seconds to wait at most.")
]
Port = Annotated[list[str] | None, typer.Option("--port", "-p", help=r"[HOST:]CONTAINER\[/udp]")]
Annotation = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE that is kept for whoever reads it; these instead of all before."),
]
Gpus = Annotated[int | None, typer.Option(min=0, max=1024, help="Default: what the image needs.")]


def _placed(
    *,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE")] = None,
    port: Port = None,
    gpus: Gpus = None,
    gpu_model: Annotated[str | None, typer.Option(help="For instance nvidia-a100.")] = None,
    memory_mib: Annotated[int, typer.Option(min=0, max=MOST_MEMORY_MIB)] = 0,
    cpus: Annotated[float, typer.Option(min=0, callback=finite, help="Set aside for it.")] = 0,
    cpus_limit: Annotated[
        float, typer.Option(min=0, callback=finite, help="At most. Default: --cpus.")
    ] = 0,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    node_label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the node.")] = None,
    node_group: Annotated[
        list[str] | None, typer.Option(help="A node's UUID, or its label group: only on these.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name to find it by.")] = None,
    engine_name: Annotated[str | None, typer.Option(help="What its engine calls it.")] = None,
    only_ports: Annotated[bool, typer.Option("--only-given-ports", help="No others.")] = False,
    on_node_loss: Annotated[
        str | None, typer.Option(help="replace it elsewhere, or wait for the node.")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(min=-1000, max=1000, help="The higher is placed first. Default: 0."),
    ] = None,
) -> dict[str, Any]:
    """What it is given, and where."""
    return given(
        env=pairs(env),
        ports=list(map(published, port or [])),
        gpus=gpus,
        gpu_model=gpu_model,
        resources={
            "cpus": cpus,
            "memory_bytes": memory_mib * 1024 * 1024,
            **given(cpus_limit=cpus_limit or None),
        },
        node=node,
        node_labels=pairs(node_label) or None,
        node_groups=node_group or None,
        labels=pairs(label) or None,
        aliases=alias or None,
        engine_name=engine_name,
        publish_exposed=False if only_ports else None,
        on_node_loss=on_node_loss,
        priority=priority,
    )


def _set_up(
    *,
    shm_size: Annotated[str | None, typer.Option(help="Of /dev/shm, for instance 8g.")] = None,
    ulimit: Annotated[list[str] | None, typer.Option(help="NAME=SOFT[:HARD], -1 for none.")] = None,
    ipc: Annotated[
        str | None, typer.Option(help="private, shareable or container:NAME of yours.")
    ] = None,
    entrypoint: Annotated[
        list[str] | None, typer.Option(help="A program instead of the image's; again for a word.")
    ] = None,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Where it starts.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="NAME or ID[:GROUP].")] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option("--volume", "-v", help=r"FOLDER\[:ro] that is kept for the next of its name."),
    ] = None,
    asset: Annotated[
        list[str] | None,
        typer.Option(help=r"VARIABLE=URL\[#sha256=HEX]: a file that is fetched for it."),
    ] = None,
    tmpfs: Annotated[
        list[str] | None, typer.Option(help="FOLDER:SIZE, for instance /work:1g.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Of its root.")] = False,
    add_host: Annotated[list[str] | None, typer.Option(help="NAME:IP")] = None,
    stop_signal: Annotated[str | None, typer.Option(help="For instance SIGINT.")] = None,
    stop_grace: Annotated[
        int | None, typer.Option(min=0, max=3600, help="Seconds from that signal to SIGKILL.")
    ] = None,
) -> dict[str, Any]:
    """How its processes are set up."""
    shared = {} if ipc is None else _ipc(ipc)
    return shared | given(
        shm_size_bytes=None if shm_size is None else size_in_bytes(shm_size),
        ulimits=dict(map(_limit, ulimit)) if ulimit else None,
        entrypoint=entrypoint or None,
        working_dir=workdir,
        user=user,
        volumes=list(map(_volume, volume)) if volume else None,
        assets=list(map(_asset, asset)) if asset else None,
        tmpfs=dict(map(_folder, tmpfs)) if tmpfs else None,
        read_only=read_only or None,
        extra_hosts=dict(map(_host, add_host)) if add_host else None,
        stop_signal=stop_signal,
        stop_grace_s=stop_grace,
    )


def with_launch_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options, too; it gets what they mean as `launch`."""
    own = inspect.signature(command, eval_str=True)
    groups = {
        declared: inspect.signature(declared, eval_str=True).parameters
        for declared in (_placed, _set_up, probed)
    }
    more = {name: each for group in groups.values() for name, each in group.items()}

    @wraps(command)
    def run(**options: Any) -> None:
        launch: dict[str, Any] = {}
        for declared, names in groups.items():
            launch |= declared(**{name: options.pop(name) for name in names})
        command(**options, launch=launch)

    mine = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in own.parameters.values()
        if each.name != "launch"
    ]
    parameters = [*mine, *more.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def is_silent(launch: dict[str, Any]) -> bool:
    """None of these options was given."""
    return launch == _placed() | _set_up() | probed()


@with_launch_options
def run(
    launch: dict[str, Any],
    image: str,
    command: Annotated[list[str] | None, typer.Argument(help="Instead of the image's own.")] = None,
    name: Annotated[str | None, typer.Option(help="Unique name.")] = None,
    restart: Annotated[str, typer.Option(help="no, on-failure or always")] = "on-failure",
    wait: Annotated[bool, typer.Option(help="Wait until it runs or has failed.")] = True,
    timeout: Timeout = None,
    as_json: AsJsonOrTable = False,
) -> None:
    """Run an image on a node that fits it.

    For instance: modelyard containers run model --name first -p 8000:8080 --gpus 1
    --health-port 8080 --health-path /status
    """
    client = Client()
    spec = given(image=image, name=name, command=command or [], restart=restart, **launch)
    container = client.call("POST", "/containers", json=spec)
    if wait:
        container = until_it_runs(client, container, timeout)
    _print(container, as_json=as_json)
    if wait and not has_settled(container, ENDS):
        raise typer.Exit(FAILED)
    if container["status"] in ("FAILED", "LOST"):
        raise typer.Exit(FAILED)


WAIT_MAX_S = 300


@with_launch_options
def replace(
    launch: dict[str, Any],
    container: Named,
    image: str,
    command: Annotated[list[str] | None, typer.Argument(help="Instead of the image's own.")] = None,
    name: Annotated[str | None, typer.Option(help="Another name than the old one's.")] = None,
    restart: Annotated[str, typer.Option(help="no, on-failure or always")] = "on-failure",
    wait: Annotated[bool, typer.Option(help="Wait until it is in its place.")] = True,
    as_json: AsJsonOrTable = False,
) -> None:
    """Have a new container take the place of one, on its node and by its name.

    It is made beside it, and the old one goes once the new one runs, and is healthy if it has a
    health check. Whatever fails leaves the old one as it was.

    For instance: modelyard containers replace first model -p 8000:8080 --health-port 8080
    """
    client = Client()
    spec = given(image=image, name=name, command=command or [], restart=restart, **launch)
    path = client.path_to("containers", container) + "/replace"
    params = given(wait=WAIT_MAX_S if wait else None)
    made = client.call("POST", path, json=spec, params=params)
    _print(made, as_json=as_json)
    if not wait:
        return
    if made["status"] in OVER:
        refuse("The old one stays as it was:", made["reason"] or "it came to nothing.", code=FAILED)
    if made["replaces"] is not None:
        refuse("It goes on without us:", "it has not taken its place yet.", code=FAILED)


def _print(container: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        as_document(container)
        return
    json_or_table([container], COLUMNS, as_json=False)
    for node, reasons in sorted(container["refusals"].items()):
        echo(out, f"  {node}: {'; '.join(reasons)}")


def until_it_runs(
    client: Client, container: dict[str, Any], timeout_s: float | None
) -> dict[str, Any]:
    """The container when it runs, or cannot, or the time is over; says meanwhile why it waits, and
    at the end that it goes on."""
    container = follow(
        client, "containers", container, until=ENDS, look=_why_it_waits(), timeout_s=timeout_s
    )
    if not has_settled(container, ENDS):
        _say_it_goes_on(container)
    return container


def _why_it_waits() -> Callable[[dict[str, Any]], None]:
    """Tells the place in the queue and the reasons of each node, whenever they have changed."""
    told = ""

    def look(container: dict[str, Any]) -> None:
        nonlocal told
        place = container.get("queue_position")
        if place is None:
            return
        reasons = [
            f"; {node}: {', '.join(each)}" for node, each in sorted(container["refusals"].items())
        ]
        now = f"waits for a node, place {place} in the queue{''.join(reasons)}"
        if now != told:
            told = now
            echo(err, now)

    return look


def _say_it_goes_on(container: dict[str, Any]) -> None:
    name = container["name"]
    echo(
        err,
        f"It is still {container['status']} and goes on without us: see `modelyard containers show"
        f" {name}`, or give it up with `modelyard containers delete {name}`.",
    )


def pairs(texts: list[str] | None) -> dict[str, str]:
    """Each KEY=VALUE. Exits for one that is none."""
    return dict(map(_pair, texts or []))


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        refuse(f"{text!r} is not KEY=VALUE")
    return key, value


def _gpus(item: dict[str, Any]) -> str:
    """What it holds; apart from that what it asked for, when it holds less."""
    held, asked = len(item["gpus"]), item["spec"]["gpus"] or 0
    if held >= asked:
        return str(held or "")
    return f"{held} of {asked}"


def _ports(item: dict[str, Any]) -> str:
    return " ".join(f"{p['address']}:{p['host']}→{p['internal']}" for p in item["ports"])


def size_in_bytes(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        refuse(f"{text!r} is no size such as 8g or 512m.")
    return int(found[1]) * _UNITS[found[2].lower()]


def _limit(text: str) -> tuple[str, dict[str, int]]:
    found = _LIMIT.fullmatch(text)
    if found is None:
        refuse(f"{text!r} is not NAME=SOFT[:HARD], for instance memlock=-1.")
    return found[1], {"soft": int(found[2]), "hard": int(found[3] or found[2])}


def _ipc(text: str) -> dict[str, str]:
    kind, _, name = text.partition(":")
    if kind == "container" and name:
        return {"ipc_with": name}
    if text not in ("private", "shareable"):
        refuse(f"{text!r} is not private, shareable or container:NAME.")
    return {"ipc": text}


def _volume(text: str) -> dict[str, Any]:
    path, found, mode = text.partition(":")
    if not path.startswith("/") or (found and mode not in ("ro", "rw")):
        refuse(
            f"{text!r} is not FOLDER[:ro], for instance /data.",
            "Folders of the host cannot be mounted.",
        )
    return {"path": path, "read_only": mode == "ro"}


def _asset(text: str) -> dict[str, Any]:
    key, found, rest = text.partition("=")
    url, _, digest = rest.partition("#sha256=")
    if not found or not key or not url:
        refuse(f"{text!r} is not VARIABLE=URL[#sha256=HEX].")
    return given(env_key=key, url=url, sha256=digest or None)


def _folder(text: str) -> tuple[str, int]:
    folder, found, size = text.rpartition(":")
    if not found:
        refuse(f"{text!r} is not FOLDER:SIZE, for instance /work:1g.")
    return folder, size_in_bytes(size)


def _host(text: str) -> tuple[str, str]:
    name, found, address = text.partition(":")
    if not found:
        refuse(f"{text!r} is not NAME:IP.")
    return name, address

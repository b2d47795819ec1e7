"""What may be asked of a build, and what its parts say to each other."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from pipeline import topology
from pipeline.archives import files
from pipeline.errors import InvalidInput, TarUnsafePath
from pipeline.images.specs import require_no_nul
from pipeline.records.kernel import Change
from pipeline.records.messages import Draft, event
from schemas.base import Shape
from schemas.commands import NodeOrder
from schemas.image import Build, BuildSpec, ContextSource
from schemas.message import Message
from schemas.states import BuildStatus

LABEL: Final = "modelyard.build"
"""On every image that a build leaves on its engine, and on the one that it is for."""
REPOSITORY: Final = "modelyard-build"
"""What a built image is called on its engine until it lies in the platform's registry."""
BUILT: Final = "built-image"
"""The service of an agent that gives it away."""
TAKEN: Final = b"taken"
"""Says to whoever sends a context that its node has all of it."""
VERB: Final = "build"
"""Of the order to a node to look at its builds."""
PIECE_BYTES: Final = 256 * 1024
ACTIVE: Final = (BuildStatus.QUEUED, BuildStatus.BUILDING, BuildStatus.PUSHING)
ARGS_MAX: Final = 100

_ARG = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+-]*")
_GIT_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")


class BuiltRequest(Shape):
    """Asks an agent for the image of a build, as a TAR."""

    build: str


def tag_of(build: str) -> str:
    return f"{REPOSITORY}:{build}"


def look(build: Build, at: datetime, actor: str | None) -> Message:
    """A draft: the node is to look at its builds; what it finds in the store decides."""
    order = NodeOrder(build=build.uuid, org=build.org)
    return Message(
        id=f"{build.uuid}.{build.revision}.node-{VERB}",
        subject=topology.node_order(build.node, VERB),
        type=f"modelyard.node.{VERB}",
        time=at,
        actor=actor,
        data=order.model_dump(),
    )


def failed(reason: str, code: str, *more: Draft, last_lines: str = "") -> Change:
    """`last_lines` of its output are told with its end."""
    told = event("failed", code=code, last_lines=last_lines)
    return Change({"code": code, "pull_key": None}, BuildStatus.FAILED, reason, [told, *more])


def require(spec: BuildSpec, *, is_upload: bool) -> None:
    """Raises InvalidInput that names its field."""
    if is_upload is not (spec.source is ContextSource.UPLOAD):
        raise InvalidInput(
            "Name one context: a folder of the node (context_path), a repository (git_url), or send"
            " a TAR with the request.",
            field="context_path",
        )
    if spec.context_path is not None and spec.git_url is not None:
        raise InvalidInput("A build has one context: leave git_url out.", field="git_url")
    if spec.context_path is not None and not spec.context_path.startswith("/"):
        raise InvalidInput("context_path must be absolute.", field="context_path")
    require_no_nul(spec.context_path or "", "context_path")
    _require_git(spec)
    _require_dockerfile(spec.dockerfile)
    _require_args(spec)


def _require_git(spec: BuildSpec) -> None:
    if spec.git_ref is not None and spec.git_url is None:
        raise InvalidInput("git_ref goes with git_url.", field="git_ref")
    if spec.git_ref is not None and not _REF.fullmatch(spec.git_ref):
        raise InvalidInput("git_ref is no name of a branch, tag or commit.", field="git_ref")
    if spec.git_url is None:
        return
    try:
        parts = urlsplit(spec.git_url)
        is_fine = parts.scheme == "https" and bool(_GIT_HOST.fullmatch(parts.netloc))
        _ = parts.port
    except ValueError:
        is_fine = False
    if not is_fine or not spec.git_url.isprintable() or " " in spec.git_url:
        raise InvalidInput(
            "git_url must look like https://host/path, without credentials.", field="git_url"
        )


def _require_dockerfile(path: str) -> None:
    try:
        is_fine = bool(files.inside(path)) and path.isprintable() and not path.startswith("-")
    except TarUnsafePath as error:
        raise InvalidInput(error.message, field="dockerfile") from error
    if not is_fine:
        raise InvalidInput("dockerfile is no path in the context.", field="dockerfile")


def _require_args(spec: BuildSpec) -> None:
    if spec.target is not None and not spec.target.isprintable():
        raise InvalidInput("target is no name of a stage.", field="target")
    if len(spec.build_args) > ARGS_MAX:
        raise InvalidInput(f"At most {ARGS_MAX} build_args can be given.", field="build_args")
    for name, value in spec.build_args.items():
        if not _ARG.fullmatch(name):
            raise InvalidInput("Names of build_args are letters, digits and _.", field="build_args")
        require_no_nul(value, "build_args")

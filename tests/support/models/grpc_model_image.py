"""An image of a gRPC model, made of this very interpreter: nothing is pulled or compiled.

It holds what a server needs and no more: the interpreter, the modules that one call loads, and the
shared libraries of both.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.archives.images import Layer, TinyImage, busybox_image, busybox_layer, canonical
from tests.support.archives.tars import Tar
from tests.support.sources import ROOT

APP = "/app"
LABELS = {"ml.openmodel.protocols": '["v2"]', "ml.openmodel.port": "45000"}


def grpc_model_image(*, labels: dict[str, str] | None = None, **env: str) -> TinyImage:
    """One that is well unless `env` says otherwise: see `grpc_model_server`."""
    python, search = _interpreter()
    plain = busybox_image(
        command=(python, "-m", "tests.support.models.grpc_model_server"),
        env={"PYTHONHOME": sys.base_prefix, "PYTHONPATH": search, **env},
        labels=LABELS if labels is None else labels,
        ports=(),
    )
    layer = _layer()
    config = json.loads(plain.config)
    config["rootfs"]["diff_ids"].append(layer.diff_id)
    config["history"].append({"created": "2024-01-01T00:00:00Z", "created_by": "test"})
    return TinyImage(canonical(config), (busybox_layer(), layer))


def _interpreter() -> tuple[str, str]:
    """Its path, and where it looks for modules, both within the image."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    return str(Path(sys.executable).resolve()), f"{APP}:{packages}"


@cache
def _layer() -> Layer:
    """The same bytes for as long as interpreter, packages and server are the same."""
    listing = subprocess.run(
        [sys.executable, "-m", "tests.support.models.grpc_model_image"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    with Tar() as tar:
        for line in sorted(set(listing.stdout.splitlines())):
            source = Path(line)
            # The environment of the packages may lie below the sources, and stays where it is.
            is_ours = source.is_relative_to(ROOT / "tests")
            inside = Path(APP, source.relative_to(ROOT)) if is_ours else source
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            tar.add(str(inside).lstrip("/"), source.read_bytes(), mode=mode)
    return Layer(tar.content, gzip.compress(tar.content, compresslevel=1, mtime=0))


def _list_files() -> None:
    """Prints the path of every file that a server which has answered has open or loaded."""
    asyncio.run(_one_call())
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    modules = {path for path in loaded if path and not path.endswith("grpc_model_image.py")}
    libraries = [path for path in modules if path.endswith(".so")]
    interpreter = str(Path(sys.executable).resolve())
    linked = subprocess.run(
        ["ldd", interpreter, *libraries], check=True, capture_output=True, text=True
    )
    words = {word for word in linked.stdout.split() if word.startswith("/")}
    needed = {word for word in words if not word.endswith(":")}
    print("\n".join(sorted({interpreter, *modules, *needed})))


async def _one_call() -> None:
    from grpc import aio

    from tests.support.models.grpc_model_server import a_model

    async with a_model() as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.unary_unary("/ModzyModel/Status")(b"")


if __name__ == "__main__":
    _list_files()

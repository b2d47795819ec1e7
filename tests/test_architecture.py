"""What the design promises about the shape of the code, checked on the code itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

from tests.support.floors import ADAPTERS_ON_ADAPTERS, EVERYBODY, FLOORS, PURE
from tests.support.sources import PACKAGES, ROOT, Module, lines_of, modules

MAY_IMPORT = {
    "modelyard": {"modelyard"},
    "schemas": {"schemas"},
    "pipeline": {"schemas", "pipeline"},
    "workers": {"schemas", "pipeline", "workers"},
    "api": {"schemas", "pipeline", "api"},
    "cli": {"schemas", "pipeline", "modelyard", "cli"},
}
SDK_HOMES = {
    "motor": ("pipeline/adapters/store/",),
    # The embedded store has to be initiated before an adapter can open it.
    "pymongo": ("pipeline/adapters/store/", "pipeline/stack/pieces/mongod"),
    "bson": ("pipeline/adapters/store/",),
    "docker": ("pipeline/adapters/engine/",),
    "nats": ("pipeline/adapters/bus/",),
    "httpx": (
        "pipeline/adapters/http/",
        "pipeline/adapters/registry/",
        "modelyard/client/",
        *("cli/client", "cli/contexts", "cli/credentials", "cli/server", "cli/uploads"),
    ),
    "pynvml": ("pipeline/adapters/gpus/",),
    "grpc": ("pipeline/adapters/grpc/",),
    "faststream": ("workers/",),
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "typer": ("cli/",),
    "yaml": ("cli/manifests/",),
    "rich": ("cli/",),
}
IO_MODULES = {"asyncio", "socket", "subprocess", "pathlib", "shutil", "tempfile", "threading"}
PURE_ROOTS = ("pipeline.errors", "pipeline.ports")
CONNECTING = {"FastAPI", "NatsBroker", "FastStream", "Settings", "DockerEngine", "Client"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_FOLDER_FILES = 15
SLIVER_LINES = 40
SLIVER_IMPORTERS = 3
FRONT_DOOR = re.compile(r"(/__init__|/__main__|/service|workers/stages/\w+)\.py$")
"""Of a package, a process, a resource, or the stages of a resource."""
SELF_EVIDENT_LINES = 12
"""A public function or class up to this long may go without a docstring."""
VAGUE = re.compile(r"(^|_)(utils?|manager|helpers?)(_|$)", re.IGNORECASE)
VAGUE_CLASS = re.compile(r"(Utils?|Manager|Helpers?)$")
# Spelt in two parts, so that this file passes its own test.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
EVASIONS = re.compile(r"pytest\.(skip|xfail|mark\.skip|mark\.xfail)|importorski" + "p")


def test_packages_import_only_downwards() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules(*PACKAGES)
        for name in _ours(module)
        if name.split(".")[0] not in MAY_IMPORT[module.package]
    ]
    assert not wrong, wrong


def test_a_foreign_sdk_is_imported_only_where_it_is_adapted() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules(*PACKAGES)
        for name in module.imports()
        if not module.place.startswith(SDK_HOMES.get(name.split(".")[0], ("",)))
    ]
    assert not wrong, wrong


def test_every_package_stands_on_a_floor() -> None:
    assert {_package(module.name) for module in modules("pipeline")} - {""} == set(FLOORS)


def test_a_package_imports_only_lower_floors() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules("pipeline")
        for name in module.imports()
        if (theirs := _package(name)) and (ours := _package(module.name)) and theirs != ours
        if theirs not in EVERYBODY and FLOORS[theirs] >= FLOORS[ours]
    ]
    assert not wrong, wrong


def test_adapters_do_not_import_each_other() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules("pipeline/adapters")
        for name in module.imports()
        if (theirs := _package(name)).startswith("adapters/")
        and (ours := _package(module.name)) != theirs
        and (ours, theirs) not in ADAPTERS_ON_ADAPTERS
    ]
    assert not wrong, wrong


def test_pure_files_do_no_io() -> None:
    pure = [module for module in modules("pipeline") if _is_pure(module.name)]
    wrong = [
        f"{module.place} imports {name}"
        for module in pure
        for name in module.imports()
        if name.split(".")[0] in IO_MODULES
        or (
            name.startswith("pipeline.")
            and not name.startswith(PURE_ROOTS)
            and not any(_is_pure(each) for each in (name, name.rpartition(".")[0]))
            and not _holds_pure(name)
        )
    ]
    wrong += [
        f"{module.place}:{node.lineno} opens a file"
        for module in pure
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert not wrong, wrong


def test_every_pure_file_is_there() -> None:
    there = {module.name for module in modules("pipeline")}
    missing = [
        f"{package}/{name}"
        for package, names in PURE.items()
        for name in names - {"*"}
        if _dotted(package, name) not in there
    ]
    assert not missing, missing


def test_a_door_imports_no_other_door() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules("api")
        for name in module.imports()
        if name.startswith("api.")
        if (ours := module.name.split(".")[1]) not in ("app", "__main__", "server")
        if name.split(".")[1] not in (ours, "http")
    ]
    assert not wrong, wrong


def test_folders_stay_small() -> None:
    folders = Counter(module.path.parent.relative_to(ROOT) for module in modules(*PACKAGES))
    wrong = [
        f"{path}: {count} files" for path, count in folders.items() if count > MAX_FOLDER_FILES
    ]
    assert not wrong, wrong


def test_a_short_file_has_three_importers_or_is_a_front_door() -> None:
    importers = Counter(
        name for module in modules(*PACKAGES) for name in set(module.imports()) if _is_ours(name)
    )
    slivers = [
        f"{module.place}: {len(module.text.splitlines())} lines, {importers[module.name]} importers"
        for module in modules(*PACKAGES)
        if len(module.text.splitlines()) < SLIVER_LINES
        and importers[module.name] < SLIVER_IMPORTERS
        and not FRONT_DOOR.search(module.place)
    ]
    assert not slivers, slivers


def test_nothing_that_connects_is_built_at_import() -> None:
    wrong = [
        f"{module.place}:{call.lineno} builds {_callee(call)}"
        for module in modules(*PACKAGES)
        for call in _calls_at_import(module.tree)
        if _callee(call) in CONNECTING
    ]
    assert not wrong, wrong


def test_importing_everything_opens_no_socket_process_or_thread() -> None:
    ours = [module.name for module in modules(*PACKAGES) if not module.name.endswith("__main__")]
    foreign = {
        name
        for module in modules(*PACKAGES)
        for name in module.imports()
        if not _is_ours(name) and not name.startswith("__future__")
    }
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            _IMPORTER,
            ",".join(sorted(foreign)),
            ",".join(ours),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_files_and_functions_stay_small() -> None:
    long = [
        f"{module.place}: {len(module.text.splitlines())} lines"
        for module in modules(*PACKAGES, "tests")
        if len(module.text.splitlines()) > MAX_FILE_LINES
    ]
    long += [
        f"{module.place}:{function.lineno} {function.name}: {lines_of(function)} lines"
        for module in modules(*PACKAGES, "tests")
        for function in module.functions()
        if lines_of(function) > MAX_FUNCTION_LINES
    ]
    assert not long, long


def test_most_functions_fit_into_ten_lines() -> None:
    lengths = [
        lines_of(function) for module in modules(*PACKAGES) for function in module.functions()
    ]
    assert sum(length <= 10 for length in lengths) > len(lengths) / 2


def test_no_name_says_utils_manager_or_helpers() -> None:
    vague = [
        module.place
        for module in modules(*PACKAGES, "tests")
        if any(VAGUE.search(part) for part in module.name.split("."))
    ]
    vague += [
        f"{module.place}:{item.lineno} {item.name}"
        for module in modules(*PACKAGES, "tests")
        for item in module.classes()
        if VAGUE_CLASS.search(item.name)
    ]
    assert not vague, vague


def test_nothing_is_left_unfinished() -> None:
    marks = [
        f"{module.place}:{number}"
        for module in modules(*PACKAGES, "tests")
        for number, line in enumerate(module.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not marks, marks


def test_no_test_is_skipped() -> None:
    evasions = [
        f"{module.place}:{number}"
        for module in modules("tests")
        for number, line in enumerate(module.text.splitlines(), 1)
        if EVASIONS.search(line) and "EVASIONS" not in line
    ]
    assert not evasions, evasions


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        module.place
        for module in modules(*PACKAGES)
        if module.tree.body and not ast.get_docstring(module.tree)
    ]
    assert not silent, silent


def test_public_definitions_that_are_not_self_evident_state_their_contract() -> None:
    silent = [
        f"{module.place}:{node.lineno} {node.name}"
        for module in modules(*PACKAGES)
        for node in _public(module.tree)
        if lines_of(node) > SELF_EVIDENT_LINES and not ast.get_docstring(node)
    ]
    assert not silent, silent


def test_no_exception_is_swallowed() -> None:
    swallowed = [
        f"{module.place}:{handler.lineno}"
        for module in modules(*PACKAGES, "tests")
        for handler in ast.walk(module.tree)
        if isinstance(handler, ast.ExceptHandler) and _catches_all(handler) and _is_silent(handler)
    ]
    assert not swallowed, swallowed


def _ours(module: Module) -> Iterator[str]:
    return (name for name in module.imports() if _is_ours(name) or name.startswith("tests"))


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def _package(name: str) -> str:
    """Of the pipeline: the longest one of `FLOORS` that holds this module; empty for none."""
    parts = name.split(".")
    if parts[0] != "pipeline" or len(parts) < 2:
        return ""
    inside = parts[1:]
    for length in (2, 1):
        if (place := "/".join(inside[:length])) in FLOORS:
            return place
    return ""


def _dotted(package: str, name: str) -> str:
    return ".".join(["pipeline", *package.split("/"), name] if package else ["pipeline", name])


def _is_pure(name: str) -> bool:
    place, _, file = name.removeprefix("pipeline.").rpartition(".")
    names = PURE.get(place.replace(".", "/"), set()) if name.startswith("pipeline.") else set()
    return file in names or ("*" in names)


def _holds_pure(name: str) -> bool:
    """Whether it is a package of which something pure is imported: `from pipeline import oci`."""
    return any(_dotted(package, "").rstrip(".") == name for package in PURE)


def _callee(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _calls_at_import(tree: ast.Module) -> Iterator[ast.Call]:
    """Of the statements that run when the module is imported."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for statement in tree.body:
        if not isinstance(statement, definitions):
            yield from (node for node in ast.walk(statement) if isinstance(node, ast.Call))


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.startswith("_"):
            yield node


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    return caught is None or (
        isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException")
    )


def _is_silent(handler: ast.ExceptHandler) -> bool:
    """Neither raises nor calls anything that could tell somebody."""
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    return not any(isinstance(node, ast.Raise | ast.Call | ast.Return) for node in inside)


# Foreign modules first: what those do while they are imported is not ours to judge.
_IMPORTER = """
import importlib, sys, threading
foreign, ours = (names.split(",") for names in sys.argv[1:])
for name in foreign:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue  # `from a import b` names a thing in a module, too
threads = threading.active_count()
def refuse(event, arguments):
    if event in ("socket.__new__", "socket.bind", "socket.connect", "subprocess.Popen", "os.fork"):
        raise RuntimeError(f"{event} at import: {arguments}")
sys.addaudithook(refuse)
for name in ours:
    importlib.import_module(name)
assert threading.active_count() == threads, threading.enumerate()
"""

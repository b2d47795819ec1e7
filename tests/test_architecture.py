"""What the design promises about the shape of the code, checked on the code itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

from tests.support.sources import PACKAGES, ROOT, Module, lines_of, modules

MAY_IMPORT = {
    "schemas": {"schemas"},
    "pipeline": {"schemas", "pipeline"},
    "workers": {"schemas", "pipeline", "workers"},
    "api": {"schemas", "pipeline", "api"},
    "cli": {"schemas", "pipeline", "cli"},
}
SDK_HOMES = {
    "motor": ("pipeline/adapters/store",),
    # The embedded store has to be initiated before an adapter can open it.
    "pymongo": ("pipeline/adapters/store", "pipeline/stack/mongod"),
    "bson": ("pipeline/adapters/store",),
    "docker": ("pipeline/adapters/engine",),
    "nats": ("pipeline/adapters/bus",),
    "httpx": ("pipeline/adapters/http", "pipeline/adapters/registry", "cli/client"),
    "pynvml": ("pipeline/adapters/gpus",),
    "grpc": ("pipeline/adapters/grpc_models",),
    "faststream": ("workers/",),
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "typer": ("cli/",),
    "rich": ("cli/",),
}
IO_MODULES = {"asyncio", "socket", "subprocess", "pathlib", "shutil", "tempfile", "threading"}
PURE_MAY_IMPORT = ("schemas", "pipeline.rules", "pipeline.errors", "pipeline.ports")
CONNECTING = {"FastAPI", "NatsBroker", "FastStream", "Settings", "DockerEngine", "Client"}
MAX_FILE_LINES = dict.fromkeys(PACKAGES, 300) | {"tests": 400}
MAX_FUNCTION_LINES = 50
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


def test_adapters_do_not_import_each_other() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules("pipeline/adapters")
        for name in module.imports()
        if name.startswith("pipeline.adapters.") and _family(name) != _family(module.name)
    ]
    assert not wrong, wrong


def test_rules_do_no_io() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules("pipeline/rules")
        for name in module.imports()
        if name.split(".")[0] in IO_MODULES
        or (_is_ours(name) and not name.startswith(PURE_MAY_IMPORT) and name != "pipeline")
    ]
    wrong += [
        f"{module.place}:{node.lineno} opens a file"
        for module in modules("pipeline/rules")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert not wrong, wrong


def test_only_the_composition_root_opens_adapters_for_the_core() -> None:
    wrong = [
        f"{module.place} imports {name}"
        for module in modules("pipeline/core", "pipeline/adapters", "pipeline/rules")
        for name in module.imports()
        if name.startswith(("pipeline.services", "pipeline.stack"))
    ]
    assert not wrong, wrong


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
        if len(module.text.splitlines()) > MAX_FILE_LINES[module.package]
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


def _family(name: str) -> str:
    """`engine_pull` belongs to `engine`; the registry is spoken to over our own HTTP client."""
    first = name.split(".")[2].split("_")[0] if name.count(".") > 1 else ""
    return "http" if first == "registry" else first


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

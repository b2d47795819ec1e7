"""The Python client's operations, made of the OpenAPI document: `make docs` writes them."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.support.client_types import MADE, Types, module_of, operations, type_name
from tests.support.sources import ROOT

PLACE = ROOT / "modelyard" / "client"
LEFT_OUT = frozenset({"if-none-match", "last-event-id", "last_event_id", "Tus-Resumable", "cursor"})
"""Parameters that the client sends by itself, or that only caches need."""
_WIDTH = 92


def sources(document: dict[str, Any]) -> dict[Path, str]:
    """What belongs into each file of the client that is made."""
    document = copy.deepcopy(document)
    types = Types(document)
    found = {}
    for module in sorted({*types.modules.values()}):
        found[PLACE / "types" / f"{module}.py"] = types.module(module)
    found[PLACE / "types" / "__init__.py"] = _types_init(types)
    for is_async in (False, True):
        folder = PLACE / ("async_operations" if is_async else "operations")
        modules: dict[str, list[_Operation]] = {}
        for path, method, operation in operations(document):
            made = _Operation(types, path, method, operation, is_async)
            modules.setdefault(module_of(operation), []).append(made)
        for module, made_here in modules.items():
            found[folder / f"{module}.py"] = _module(types, module, made_here, is_async)
        found[folder / "__init__.py"] = _init(sorted(modules), is_async)
    return {path: _formatted(text) for path, text in found.items()}


def _formatted(text: str) -> str:
    """As `ruff format` and the order of imports want it."""
    for command in (["check", "-q", "--fix-only", "--select", "I,F401"], ["format", "-q"]):
        asked = [str(Path(sys.executable).parent / "ruff"), *command]
        asked += ["--config", str(ROOT / "pyproject.toml")]
        asked += ["--config", 'lint.isort.known-first-party = ["modelyard"]']
        asked += ["--stdin-filename", "made.py", "-"]
        done = subprocess.run(
            asked, input=text, capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        text = done.stdout
    return text


def _types_init(types: Types) -> str:
    lines = ['"""Every type of what is asked and answered.', "", MADE, '"""', ""]
    names: dict[str, list[str]] = {}
    for name, module in types.modules.items():
        names.setdefault(module, []).append(type_name(name))
    for module, here in sorted(names.items()):
        listed = ", ".join(f"{name} as {name}" for name in sorted(here))
        lines.append(f"from modelyard.client.types.{module} import ({listed})")
    return "\n".join(lines) + "\n"


def _init(modules: list[str], is_async: bool) -> str:
    package = "async_operations" if is_async else "operations"
    lines = [f'"""Every operation of `/yard/v1`, by its name there.\n\n{MADE}\n"""', ""]
    classes = [_class(module, is_async) for module in modules]
    for module, name in zip(modules, classes, strict=True):
        lines.append(f"from modelyard.client.{package}.{module} import {name}")
    name = "AsyncOperations" if is_async else "Operations"
    lines += ["", "", f"class {name}({', '.join(classes)}):", '    """All of them."""', ""]
    return "\n".join(lines)


def _class(module: str, is_async: bool) -> str:
    return ("Async" if is_async else "") + module.title()


def _module(types: Types, module: str, made: list[_Operation], is_async: bool) -> str:
    sender = "AsyncSender" if is_async else "Sender"
    body = "\n".join(each.written() for each in made)
    head = f'"""Operations: {module}.\n\n{MADE}\n"""\n\nfrom __future__ import annotations\n'
    iterator, manager = ("Async", "Async") if is_async else ("", "")
    used = {
        f"from collections.abc import {iterator}Iterator": f"{iterator}Iterator[",
        f"from contextlib import Abstract{manager}ContextManager": "ContextManager[",
        "from typing import Literal": "Literal[",
        "from typing import Any": "Any",
        "import httpx": "httpx.",
        "from modelyard.client.calls import Call": "Call(",
        "from modelyard.client.calls import Slashed": "Slashed(",
    }
    imports = [line for line, sign in used.items() if sign in body]
    home = "asynchronous" if is_async else "blocking"
    imports.append(f"from modelyard.client.{home} import {sender}")
    typed = [
        f"    from modelyard.client.calls import {name}"
        for name in ("Content", "Event")
        if re.search(rf"\b{name}\b", body)
    ]
    for name, place in types.modules.items():
        if re.search(rf"\b{type_name(name)}\b", body) and place:
            typed.append(f"    from modelyard.client.types.{place} import {type_name(name)}")
    typing = ["from typing import TYPE_CHECKING", "", "if TYPE_CHECKING:", *sorted(typed)]
    name = _class(module, is_async)
    return "\n".join(
        [
            head,
            *imports,
            *typing,
            "",
            "",
            f"class {name}({sender}):",
            f'    """{module.title()}."""',
            "",
            body,
        ]
    )


class _Operation:
    def __init__(
        self, types: Types, path: str, method: str, operation: dict[str, Any], is_async: bool
    ) -> None:
        self._types = types
        self._path = path
        self._method = method.upper()
        self._operation = operation
        self._is_async = is_async
        self._content: dict[str, Any] = {}
        for status, response in operation["responses"].items():
            if status < "3":
                self._content |= response.get("content", {})
        self._parameters = [
            each for each in operation.get("parameters", []) if each["name"] not in LEFT_OUT
        ]

    def written(self) -> str:
        """The method, not yet formatted."""
        returned, call = self._answer()
        first, keywords = self._arguments()
        signature = ", ".join(["self", *first, *(["*", *keywords] if keywords else [])])
        awaits = self._is_async and call in ("_json", "_nothing", "_headers")
        lines = [f"{'async ' if awaits else ''}def {self._operation['operationId']}({signature})"]
        lines[0] += f" -> {returned}:"
        lines += self._documentation()
        sent = f"{'await ' if awaits else ''}self.{call}({self._call(call)})"
        if call == "_json":
            lines += [f"    found: {returned} = {sent}", "    return found"]
        else:
            lines.append(f"    {sent}" if call == "_nothing" else f"    return {sent}")
        return textwrap.indent("\n".join(lines), "    ") + "\n"

    def _documentation(self) -> list[str]:
        said = " ".join(self._operation["description"].split("\n\n")[0].split())
        lines = textwrap.wrap(said, _WIDTH - 6)
        ended = [*lines[:-1], f"{lines[-1]}"]
        text = "\n".join([f'    """{ended[0]}', *(f"    {line}" for line in ended[1:])])
        return [f'{text}"""' if len(ended[-1]) < _WIDTH - 9 else f'{text}\n    """']

    def _answer(self) -> tuple[str, str]:
        """The type of what is returned, and the sender's method that returns it."""
        iterator = "AsyncIterator" if self._is_async else "Iterator"
        if json := self._content.get("application/json"):
            reference = json["schema"].get("$ref", "")
            if "PageView_" in reference:
                page = self._types.schemas[reference.rpartition("/")[2]]
                item = self._types.written(page["properties"]["items"]["items"])
                return f"{iterator}[{item}]", "_pages"
            return self._types.written(json["schema"]), "_json"
        if lines := self._content.get("application/x-ndjson"):
            return f"{iterator}[{self._types.written(lines['schema'])}]", "_entries"
        if list(self._content) == ["text/event-stream"]:
            return f"{iterator}[Event]", "_events"
        if "text/plain" in self._content:
            return f"{iterator}[str]", "_text"
        if self._content:
            manager = "AbstractAsyncContextManager" if self._is_async else "AbstractContextManager"
            return f"{manager}[httpx.Response]", "_passed"
        is_told = "uploads" in self._operation["tags"] and self._method != "DELETE"
        return ("httpx.Headers", "_headers") if is_told else ("None", "_nothing")

    def _arguments(self) -> tuple[list[str], list[str]]:
        first = [f"{_python(each)}: str" for each in self._parameters if each["in"] == "path"]
        keywords = [
            f"{_python(each)}: {self._typed(each)}"
            for each in self._parameters
            if each["in"] != "path"
        ]
        body = self._operation.get("requestBody", {}).get("content", {})
        json = body.get("application/json")
        raw = [kind for kind in body if kind not in ("application/json", "multipart/form-data")]
        if json:
            text = self._types.written(json["schema"])
            needed = self._operation["requestBody"].get("required", False) and not raw
            first.append(f"body: {text}" if needed else f"body: {text} | None = None")
        if raw:
            (keywords if json else first).append(
                "content: Content | None = None" if json else "content: Content"
            )
            kind = "application/x-tar" if "application/x-tar" in raw else raw[0]
            kind = "application/json" if kind == "*/*" else kind
            keywords.append(f'content_type: str = "{kind}"')
        if self._answer()[1] == "_events":
            keywords.append("after: str | None = None")
        return first, keywords

    def _typed(self, parameter: dict[str, Any]) -> str:
        text = self._types.written(parameter["schema"])
        if parameter["name"].startswith("Upload-") and parameter["name"] != "Upload-Metadata":
            text = "int" if "Checksum" not in parameter["name"] else text
        if parameter.get("required"):
            return text
        return f"{text.removesuffix(' | None')} | None = None"

    def _call(self, call: str) -> str:
        pieces = [_python(each) for each in self._parameters if each["in"] == "path"]
        fixed = re.sub(r"\{[^}]*\}", "{}", self._path)
        parts = [f'"{self._method}"', f'"{fixed}"']
        if pieces:
            parts.append(f"({', '.join(map(_piece, pieces))},)")
        query = [each for each in self._parameters if each["in"] == "query"]
        if call == "_pages":
            query = [each for each in query if each["name"] != "limit"]
        if query:
            listed = ", ".join(f'"{each["name"]}": {_python(each)}' for each in query)
            parts.append(f"query={{{listed}}}")
        headers = [
            f'"{each["name"]}": {self._header(each)}'
            for each in self._parameters
            if each["in"] == "header"
        ]
        if "uploads" in self._operation["tags"] and self._method != "OPTIONS":
            headers.append('"Tus-Resumable": "1.0.0"')
        if headers:
            parts.append(f"headers={{{', '.join(headers)}}}")
        body = self._operation.get("requestBody", {}).get("content", {})
        if "application/json" in body:
            parts.append("body=body")
        if any(kind not in ("application/json", "multipart/form-data") for kind in body):
            parts.append("content=content, content_type=content_type")
        extra = {"_pages": ", limit", "_events": ", after"}.get(call, "")
        return f"Call({', '.join(parts)}){extra}"

    def _header(self, parameter: dict[str, Any]) -> str:
        name = _python(parameter)
        return f"str({name})" if self._typed(parameter) == "int" else name


def _piece(name: str) -> str:
    """Names of repositories are paths of their own, which the document cannot say."""
    return f"Slashed({name})" if name == "repository" else name


def _python(parameter: dict[str, Any]) -> str:
    """`If-Match` is `if_match`, `repoTag` is `repo_tag`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", parameter["name"])
    return str(name.replace("-", "_").lower())


def write(document: dict[str, Any]) -> None:
    """Puts what is made where it belongs, and takes away what is made no more."""
    made = sources(document)
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in {path.parent for path in made}:
        for path in set(folder.glob("*.py")) - made.keys():
            path.unlink()

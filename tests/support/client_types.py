"""The types of the Python client, made of the schemas of the OpenAPI document."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
MODULE_OF = {
    "images": "images",
    "uploads": "images",
    "docker images": "registries",
    "registries": "registries",
    "containers": "containers",
    "deployments": "deployments",
    "nodes": "nodes",
    "events": "messages",
    "dead letters": "messages",
    "access": "access",
    "organisations": "access",
    "webhooks": "webhooks",
}
"""The module that holds the operations of a tag, and the types that only they use."""
OTHERS, COMMON = "messages", "common"
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
MADE = "Made of the OpenAPI document by `make docs`."
_HEAD = f'"""{{said}}\n\n{MADE}\n"""\n\nfrom __future__ import annotations\n'
_WIDTH = 88


def module_of(operation: dict[str, Any]) -> str:
    return MODULE_OF.get(operation["tags"][0], OTHERS)


def operations(document: Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of each that the client calls."""
    for path, methods in document["paths"].items():
        if path.startswith("/yard/v1/"):
            yield from ((path, method, operation) for method, operation in methods.items())


def type_name(schema: str) -> str:
    """`schemas__message__Attempt` is `MessageAttempt`; what belongs to a page is no type."""
    found = re.fullmatch(r"schemas__(\w+?)__(\w+)", schema)
    return found[1].title() + found[2] if found else schema


def references(value: Any) -> Iterator[str]:
    """Names of the schemas that are named somewhere in it."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


class Types:
    """Which types there are, in which module, and how a schema is written as one."""

    def __init__(self, document: Schema) -> None:
        self.schemas: dict[str, Schema] = dict(document["components"]["schemas"])
        self._asked: set[str] = set()
        users: dict[str, set[str]] = {}
        for _, _, operation in operations(document):
            self._name_inline(operation)
            bodies = self._reached(operation.get("requestBody"))
            self._asked |= bodies
            answers = [each for status, each in operation["responses"].items() if status < "3"]
            for name in bodies | self._reached([answers, operation.get("parameters")]):
                users.setdefault(name, set()).add(module_of(operation))
        self.modules = {
            name: next(iter(used)) if len(used) == 1 else COMMON
            for name, used in users.items()
            if not name.startswith("PageView_")
        }

    def _name_inline(self, operation: dict[str, Any]) -> None:
        """Objects of JSON lines stand in their operation, with a title."""
        for response in operation["responses"].values():
            lines = response.get("content", {}).get("application/x-ndjson")
            if lines is not None:
                for each in lines["schema"].get("oneOf", [lines["schema"]]):
                    if "title" in each:
                        self.schemas[each["title"]] = dict(each)
                        each["$ref"] = each["title"]

    def _reached(self, value: Any) -> set[str]:
        found: set[str] = set()
        left = list(references(value))
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += references(self.schemas[name])
        return found

    def written(self, schema: Schema) -> str:
        """The schema as a type."""
        if "$ref" in schema:
            return type_name(schema["$ref"].rpartition("/")[2])
        if "const" in schema:
            return f"Literal[{schema['const']!r}]"
        if "enum" in schema:
            return f"Literal[{', '.join(map(repr, schema['enum']))}]"
        kind = schema.get("type")
        if kind in _PLAIN:
            return "bytes" if schema.get("format") == "binary" else _PLAIN[kind]
        if kind == "array" or (kind is None and "items" in schema):
            return f"list[{self.written(schema.get('items', {}))}]"
        if kind == "object":
            values = schema.get("additionalProperties")
            return f"dict[str, {self.written(values) if isinstance(values, dict) else 'Any'}]"
        choices = schema.get("anyOf") or schema.get("oneOf") or []
        texts = list(dict.fromkeys(map(self.written, choices)))
        return " | ".join(sorted(texts, key="None".__eq__)) or "Any"

    def module(self, module: str) -> str:
        """The source of a module of types."""
        names = [name for name, place in self.modules.items() if place == module]
        body = "\n\n".join(map(self._definition, sorted(names, key=type_name)))
        shared = {
            type_name(other)
            for name in names
            for other in references(self.schemas[name])
            if self.modules[other] != module
        }
        imports = f"from modelyard.client.types.common import {', '.join(sorted(shared))}\n"
        typing = [each for each in ("Any", "Literal", "NotRequired", "TypedDict") if each in body]
        head = _HEAD.format(said=f"Types of what is asked and answered: {module}.")
        typed = f"\nfrom typing import {', '.join(typing)}\n"
        return head + typed + ("\n" + imports if shared else "") + "\n" + body

    def _definition(self, name: str) -> str:
        schema, called = self.schemas[name], type_name(name)
        if schema.get("type") != "object":
            return f"{called} = {self.written(schema)}\n"
        asked = name in self._asked
        lines = [f"class {called}(TypedDict):"]
        if said := " ".join(schema.get("description", "").split("\n\n")[0].split()):
            text = "\n    ".join(textwrap.wrap(said, _WIDTH))
            lines.append(f'    """{text}"""')
        else:
            lines.append(f'    """`{called}` of the document."""')
        for field, each in schema.get("properties", {}).items():
            text = self.written(each)
            is_optional = asked and field not in schema.get("required", [])
            lines.append(f"    {field}: {f'NotRequired[{text}]' if is_optional else text}")
        return "\n".join(lines) + "\n"

"""The messages of the service `ModzyModel`, made by the library of Protocol Buffers itself."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_KINDS = {"int32": 5, "string": 9, "bytes": 12, "bool": 8, "message": 11}
_ONE, _MANY = 1, 3
_OUTCOME = [("status_code", "int32"), ("status", "string"), ("message", "string")]


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="model.proto", syntax="proto3")
    _message(file, "StatusRequest")
    _message(file, "ShutdownRequest")
    _message(file, "ModelInfo", ("model_name", "string"), ("model_version", "string"))
    status = _message(file, "StatusResponse", *_OUTCOME)
    status.field.add(name="model_info", number=4, type=11, label=_ONE, type_name=".ModelInfo")
    _message(file, "ShutdownResponse", *_OUTCOME)
    _files(file, "InputItem", "input")
    request = _message(file, "RunRequest")
    request.field.add(name="inputs", number=1, type=11, label=_MANY, type_name=".InputItem")
    request.field.add(name="explain", number=3, type=_KINDS["bool"], label=_ONE)
    item = _files(file, "OutputItem", "output")
    item.field.add(name="success", number=2, type=_KINDS["bool"], label=_ONE)
    reply = _message(file, "RunResponse", *_OUTCOME)
    reply.field.add(name="outputs", number=4, type=11, label=_MANY, type_name=".OutputItem")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    factory = message_factory.MessageFactory(pool)
    names = [each.name for each in file.message_type]
    return {name: factory.GetPrototype(pool.FindMessageTypeByName(name)) for name in names}


def _message(file: Any, name: str, *fields: tuple[str, str]) -> Any:
    made = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields, 1):
        made.field.add(name=field, number=number, type=_KINDS[kind], label=_ONE)
    return made


def _files(file: Any, name: str, field: str) -> Any:
    """A message whose first field maps names to contents."""
    made = _message(file, name)
    entry = f"{field.capitalize()}Entry"
    nested = made.nested_type.add(name=entry)
    nested.options.map_entry = True
    nested.field.add(name="key", number=1, type=_KINDS["string"], label=_ONE)
    nested.field.add(name="value", number=2, type=_KINDS["bytes"], label=_ONE)
    of = f".{name}.{entry}"
    made.field.add(name=field, number=1, type=_KINDS["message"], label=_MANY, type_name=of)
    return made


MESSAGES: dict[str, Any] = _build()

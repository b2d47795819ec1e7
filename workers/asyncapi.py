"""The AsyncAPI document, made from the code that handles the messages.

`python -m workers.asyncapi` writes it to `api/operations/`, where the API serves it from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from faststream.specification import AsyncAPI

from pipeline.bootstrap.control_plane import Services
from schemas.events import KINDS
from schemas.message import CONTENT_TYPE, SPEC_VERSION, EventData, Rejection
from workers.broker import YardBroker
from workers.control_plane import stages

PLACE = Path(__file__).parents[1] / "api" / "operations" / "asyncapi.json"
VERSION = "1"
EVENTS = "yard.evt.{org}.{resource}.{id}.{kind}"
REJECTIONS = "yard.evt.{org}.{resource}.{id}.rejected"

DESCRIPTION = """\
Commands that automation may publish to NATS JetStream, and the events that tell what becomes of
them.

Messages are CloudEvents 1.0 in binary mode: attributes are headers, the body is JSON. Attributes
are percent-encoded as in the CloudEvents HTTP binding. Set `Nats-Msg-Id` to the `ce-id`: a repeated
publish is then stored once, and a repeated command finds what the first one made. All events that
follow from a command carry its `ce-id` as `ce-causationid`; a command that is refused for good is
answered with `rejected`. The organisation is part of the subject; a user of an organisation may
publish and read under its own only.
"""
PARAMETERS = {
    "org": "The organisation.",
    "resource": "image, container, node, …",
    "id": "uuid of the record.",
    "kind": "What happened, in the past tense; it may have several parts.",
}
HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source"],
    "properties": {
        "ce-specversion": {"type": "string", "const": SPEC_VERSION},
        "ce-id": {"type": "string", "description": "Identifies the message, and what it asks for."},
        "ce-type": {"type": "string", "examples": ["modelyard.cmd.image.create"]},
        "ce-source": {"type": "string", "examples": ["ci"]},
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-subject": {"type": "string", "description": "uuid of the record, in events."},
        "ce-actor": {"type": "string", "description": "Who caused it, in events."},
        "ce-causationid": {
            "type": "string",
            "description": "In events: `ce-id` of the command, or `X-Request-Id` of the request, "
            "from which it follows, through all steps.",
        },
        "content-type": {"type": "string", "const": CONTENT_TYPE},
        "traceparent": {"type": "string", "description": "W3C trace context."},
        "Nats-Msg-Id": {"type": "string", "description": "The same as `ce-id`."},
    },
}


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0; the same bytes for the same code once keys are sorted."""
    broker = YardBroker(None, middlewares=(), drain_s=0)
    # Registering a stage only closes over the services; handlers are never called here.
    for register in stages(cast(Services, None)):
        register(broker)
    broker.publisher(
        EVENTS,
        title="events",
        description="What happened to a record. Kept for seven days.",
        schema=EventData,
    )
    broker.publisher(
        REJECTIONS,
        title="rejections",
        description="A command that was given up, told to its sender: `id` is that of the record "
        "it names, else that of the command.",
        schema=Rejection,
    )
    described = AsyncAPI(broker, title="Modelyard", version=VERSION, description=DESCRIPTION)
    return _completed(_renamed(dict(described.to_specification().to_jsonable())))


def written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """Messages are called like their channels, not like the class that carries them."""
    channels = {}
    for name, channel in document["channels"].items():
        [[local, reference]] = channel["messages"].items()
        whole = reference["$ref"].rpartition("/")[2]
        channels[name] = (local, whole)
        message = document["components"]["messages"].pop(whole)
        document["components"]["messages"][name] = message | {
            "name": name,
            "title": name.replace("-", " ").capitalize(),
        }
    text = json.dumps(document).replace("#/servers/development", "#/servers/nats")
    for name, (local, whole) in channels.items():
        at = f"#/channels/{name}/messages/"
        text = text.replace(f'"{at}{local}"', f'"{at}{name}"')
        text = text.replace(f'"#/components/messages/{whole}"', f'"#/components/messages/{name}"')
    document = json.loads(text)
    for name, channel in document["channels"].items():
        channel["messages"] = {name: {"$ref": f"#/components/messages/{name}"}}
    document["servers"] = {"nats": document["servers"]["development"]}
    return document


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """With what FastStream cannot know: the envelope, and what stands for subject tokens."""
    document["components"]["schemas"]["CloudEvent"] = HEADERS
    for message in document["components"]["messages"].values():
        message["headers"] = {"$ref": "#/components/schemas/CloudEvent"}
        message["correlationId"] = {"location": "$message.header#/ce-id"}
    for channel in document["channels"].values():
        tokens = [part[1:-1] for part in channel["address"].split(".") if part.startswith("{")]
        channel["parameters"] = {token: {"description": PARAMETERS[token]} for token in tokens}
        channel.pop("bindings", None)
    document["channels"]["events"]["x-kinds"] = {name: list(kinds) for name, kinds in KINDS.items()}
    for server in document["servers"].values():
        server["protocolVersion"] = "1.3"
    return document


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    place.write_text(written(asyncapi()))

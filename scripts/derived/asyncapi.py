"""Write `docs/reference/asyncapi.json`: the events on the broker as an AsyncAPI 3.0 document, for other tools.

A channel is a subject with the ids as parameters. Its messages are the events on that subject.
"""

import json
import re
from typing import Any

from beaconfire_kit.broker import DUPLICATE_WINDOW_S, EPHEMERAL_PREFIX, LIVE_PREFIX
from beaconfire_kit.event import Event, events
from scripts.derived.examples import example
from scripts.derived.reference import rooms, subject
from scripts.derived.schema import first_line, message_schema, metadata_schema

VERSION = "3.0.0"
ABOUT = f"""\
The events that services publish to the broker and gateways deliver to sockets. A publisher needs a subject and a JSON
body, and no Beaconfire library. The stream EVENTS stores all events except those under `ephemeral.`, and the broker
republishes each on `{LIVE_PREFIX}<subject>`, where gateways hear it. PROTOCOL.md describes the socket protocol."""
HEADERS = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "description": f"The event's `id`: a repeat within {DUPLICATE_WINDOW_S // 60} minutes is dropped",
        }
    },
}


def asyncapi() -> str:
    """Return the document."""
    channels: dict[str, dict[str, Any]] = {}
    for type_, cls in events().items():
        channel = channels.setdefault(_key(cls), _channel(cls))
        channel["messages"][type_] = {"$ref": f"#/components/messages/{type_}"}
    document = {
        "asyncapi": VERSION,
        "info": {
            "title": "Beaconfire events",
            "version": "1",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "NATS with JetStream, 2.11 or newer",
            }
        },
        "channels": channels,
        "operations": {
            name: operation for key in channels for name, operation in _operations(key, channels[key]).items()
        },
        "components": {
            "messages": {type_: _message(cls) for type_, cls in events().items()},
            "schemas": {"metadata": metadata_schema()},
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _key(cls: type[Event]) -> str:
    """Return a channel's name: the kinds of its subject, without the ids."""
    tokens = subject(cls).removeprefix(EPHEMERAL_PREFIX).split(".")
    return "_".join(token.strip("{}") for token in tokens[::2])


def _channel(cls: type[Event]) -> dict[str, Any]:
    ids = re.findall(r"\{(\w+)\}", subject(cls))
    channel: dict[str, Any] = {
        "address": subject(cls),
        "description": f"Reaches the rooms {', '.join(f'`{room}`' for room in rooms(cls))}.",
        "messages": {},
    }
    if ids:
        channel["parameters"] = {id_: {"description": "`[A-Za-z0-9_-]{1,64}`"} for id_ in ids}
    return channel


def _operations(key: str, channel: dict[str, Any]) -> dict[str, Any]:
    of = {"$ref": f"#/channels/{key}"}
    messages = [{"$ref": f"#/channels/{key}/messages/{type_}"} for type_ in channel["messages"]]
    return {
        f"publish_{key}": {
            "action": "send",
            "channel": of,
            "summary": "A service publishes the event",
            "messages": messages,
        },
        f"deliver_{key}": {
            "action": "receive",
            "channel": of,
            "summary": "A gateway delivers the event to the sessions in its rooms",
            "messages": messages,
        },
    }


def _message(cls: type[Event]) -> dict[str, Any]:
    payload = message_schema(cls)
    payload["properties"]["metadata"] = {"$ref": "#/components/schemas/metadata"}
    message: dict[str, Any] = {
        "name": cls.type,
        "title": f"{cls.type}, version {cls.version}",
        "summary": first_line(cls),
        "payload": payload,
        "examples": [{"name": cls.type, "payload": example(cls)}],
    }
    return message if cls.ephemeral else {**message, "headers": HEADERS}

"""Describe a whole catalogue as one AsyncAPI 3.0 document, for other tools: what is on the broker, and who hears it.

A channel is a subject with the ids as parameters. Its messages are the events on that subject, whole: a fragment has
only their payloads.
"""

from collections.abc import Container, Iterable
from itertools import chain, count
from typing import Any

from beaconfire_kit.catalogue.examples import example_message
from beaconfire_kit.catalogue.fragment import PARAMETER, EventType
from beaconfire_kit.catalogue.messages import message_schema, metadata_schema

VERSION = "3.0.0"
SCHEMA_2020_12 = "application/schema+json;version=2020-12"
EPHEMERAL_PREFIX = "ephemeral."
ABOUT = f"""\
The events that services publish to the broker and gateways deliver to sockets. A publisher needs a subject and a JSON
body, and no Beaconfire library. The stream EVENTS stores all events except those under `{EPHEMERAL_PREFIX}`, and the
broker republishes each on `live.<subject>`, where gateways hear it. PROTOCOL.md describes the socket protocol."""
SENT = "A service may also send the events to several such rooms at once, without this subject: `POST /v1/send`."
HEADERS = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "description": "The event's `id`: a repeat within 15 minutes is dropped",
        }
    },
}


def asyncapi(types: Iterable[EventType], *, version: str, title: str = "Beaconfire events") -> dict[str, Any]:
    """Return the document. `version` is that of the catalogue: its revision."""
    channels: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {"metadata": dict(metadata_schema())}
    for event in types:
        name = f"{event.name}.v{event.version}"
        if address(event) not in keys:
            keys[address(event)] = _new_key(event, channels)
        channel = channels.setdefault(keys[address(event)], _channel(event))
        channel["messages"][name] = {"$ref": f"#/components/messages/{name}"}
        messages[name] = _message(event, name)
        schemas[name] = _schema(event, name)
    return {
        "asyncapi": VERSION,
        "info": {"title": title, "version": version, "description": ABOUT},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            name: operation for key in channels for name, operation in _operations(key, channels[key]).items()
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def address(event: EventType) -> str:
    """Return the subject as a publisher writes it: `depot.{depotId}.parcel.{parcelId}`."""
    return EPHEMERAL_PREFIX + event.subject if event.ephemeral else event.subject


def rooms(event: EventType) -> list[str]:
    """Return the rooms that an event reaches, outermost first: `depot:{depotId}`. Each pair of its subject is one."""
    tokens = event.subject.split(".")
    return [f"{kind}:{id_}" for kind, id_ in zip(tokens[::2], tokens[1::2], strict=False)]


def _new_key(event: EventType, channels: Container[str]) -> str:
    """Return a name for the channel of a subject: its kinds, `depot_parcel`, with a number if that is taken."""
    name = "_".join(token.strip("{}") for token in event.subject.split(".")[::2])
    name = f"ephemeral_{name}" if event.ephemeral else name
    return next(one for one in chain([name], (f"{name}_{number}" for number in count(2))) if one not in channels)


def _channel(event: EventType) -> dict[str, Any]:
    reaches = f"Reaches the rooms {', '.join(f'`{room}`' for room in rooms(event))}."
    channel: dict[str, Any] = {
        "address": address(event),
        "description": f"{reaches} {SENT}" if event.ephemeral else reaches,
        "messages": {},
    }
    if ids := PARAMETER.findall(event.subject):
        channel["parameters"] = {id_: {"description": "`[A-Za-z0-9_-]{1,64}`"} for id_ in ids}
    return channel


def _operations(key: str, channel: dict[str, Any]) -> dict[str, Any]:
    of = {"$ref": f"#/channels/{key}"}
    messages = [{"$ref": f"#/channels/{key}/messages/{name}"} for name in channel["messages"]]
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


def _message(event: EventType, name: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": event.name,
        "title": f"{event.name}, version {event.version}",
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }
    if event.description:
        message["summary"] = event.description.splitlines()[0]
        message["description"] = event.description
    if not event.ephemeral:
        message["headers"] = HEADERS
    if (example := example_message(event)) is not None:
        message["examples"] = [{"name": event.name, "payload": example}]
    return message


def _schema(event: EventType, name: str) -> dict[str, Any]:
    pointer = f"#/components/schemas/{name}"
    if event.dialect == "draft-07":
        return message_schema(event, at=pointer, metadata="#/components/schemas/metadata")
    schema = message_schema(event, at=f"{pointer}/schema", metadata="#/components/schemas/metadata")
    return {"schemaFormat": SCHEMA_2020_12, "schema": schema}

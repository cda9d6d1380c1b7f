"""Make a fragment from Python event classes. No I/O.

document = document_of([ParcelMoved, ParcelLost], name="logistics", title="Logistics", roots=[RootKind("depot")])
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from beaconfire_kit.catalogue.fragment import EventType, RootKind
from beaconfire_kit.event import Event

_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def document_of(
    classes: Iterable[type[Event]], *, name: str, title: str, roots: Iterable[RootKind] = (), version: int = 1
) -> dict[str, Any]:
    """Return the AsyncAPI document that declares these events. A channel is a subject; its messages are the events."""
    channels: dict[str, dict[str, Any]] = {}
    for cls in classes:
        address, locations = _subject(cls)
        key = _channel_key(address)
        channel = channels.setdefault(key, {"address": address, "messages": {}})
        if locations:
            channel["parameters"] = locations
        message = _message(cls)
        channel["messages"][cls.type if cls.version == 1 else f"{cls.type}.v{cls.version}"] = message
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": str(version)},
        "x-beaconfire": {
            "fragment": name,
            "roots": {root.kind: {"members": root.members, "presence": root.presence} for root in roots},
        },
        "channels": channels,
    }


def event_type_of(cls: type[Event]) -> EventType:
    """Return the event type that a class declares."""
    address, _ = _subject(cls)
    parameters = {name: (name,) for name in re.findall(r"\{(\w+)\}", address)}
    return EventType(
        cls.type,
        cls.version,
        address,
        parameters,
        payload_schema(cls),
        description=_description(cls),
        ephemeral=cls.ephemeral,
    )


def payload_schema(cls: type[Event]) -> dict[str, Any]:
    """Return what readers accept as the payload: unknown fields pass, and a field with a default may be missing."""
    return _plain(cls.model_json_schema(by_alias=True, mode="validation"))


def _subject(cls: type[Event]) -> tuple[str, dict[str, Any]]:
    return _FIELD.sub(lambda field: f"{{{to_camel(field[1])}}}", cls.subject), {}


def _channel_key(address: str) -> str:
    tokens = address.split(".")
    return "_".join(token.strip("{}") for token in tokens[::2])


def _message(cls: type[Event]) -> dict[str, Any]:
    message: dict[str, Any] = {"name": cls.type, "description": _description(cls), "payload": payload_schema(cls)}
    vendor: dict[str, Any] = {}
    if cls.version != 1:
        vendor["version"] = cls.version
    if cls.ephemeral:
        vendor["ephemeral"] = True
    return {**message, "x-beaconfire": vendor} if vendor else message


def _description(cls: type[Event]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with references filled in, and without pydantic's titles and the writer's strictness."""
    definitions = schema.get("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(one) for one in node]
        if not isinstance(node, Mapping):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rpartition("/")[2]])
        # A field may be called `title`. Its value is then a schema and not a text.
        return {
            key: walk(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str)) and (key, value) != ("additionalProperties", False)
        }

    plain: dict[str, Any] = walk({key: value for key, value in schema.items() if key != "$defs"})
    plain.pop("description", None)
    return plain

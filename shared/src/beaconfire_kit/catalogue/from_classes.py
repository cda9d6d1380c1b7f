"""Make a fragment from Python event classes. No I/O.

document = document_of([ParcelMoved, ParcelLost], name="logistics", title="Logistics", roots=[RootKind("depot")])
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from pydantic.alias_generators import to_camel

from beaconfire_kit.catalogue.fragment import VENDOR, Conflation, EventType, RootKind
from beaconfire_kit.catalogue.pointers import pointer
from beaconfire_kit.catalogue.references import changed, references
from beaconfire_kit.event import Event

_DEFINITIONS = "#/definitions/"
_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def document_of(
    classes: Iterable[type[Event]], *, name: str, title: str, roots: Iterable[RootKind] = (), version: int = 1
) -> dict[str, Any]:
    """Return the AsyncAPI document that declares these events. A channel is a subject; its messages are the events."""
    channels: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for cls in classes:
        event_type = _with_shared_definitions(event_type_of(cls), shared)
        channel = _channel(channels, event_type)
        key = cls.type if cls.type not in channel["messages"] else f"{cls.type}.v{cls.version}"
        channel["messages"][key] = _message(event_type)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": str(version)},
        VENDOR: {
            "fragment": name,
            "roots": {root.kind: {"members": root.members, "presence": root.presence} for root in roots},
        },
        "channels": channels,
        **({"components": {"schemas": shared}} if shared else {}),
    }


def event_type_of(cls: type[Event]) -> EventType:
    """Return the event type that a class declares."""
    fields = {to_camel(name): _wire_name(cls, name) for name in _FIELD.findall(cls.subject)}
    schema = payload_schema(cls)
    return EventType(
        cls.type,
        cls.version,
        _FIELD.sub(lambda field: f"{{{to_camel(field[1])}}}", cls.subject),
        {parameter: (field,) for parameter, field in fields.items()},
        schema,
        "2020-12" if "'prefixItems': [" in repr(schema) else "draft-07",
        _description(cls),
        cls.ephemeral,
        Conflation(pointer(_wire_name(cls, cls.conflate[0])), cls.conflate[1]) if cls.conflate else None,
    )


def payload_schema(cls: type[Event]) -> dict[str, Any]:
    """Return what readers accept as the payload: unknown fields pass, and a field with a default may be missing."""
    return _plain(cls.model_json_schema(by_alias=True, mode="validation"))


def _wire_name(cls: type[Event], name: str) -> str:
    return cls.model_fields[name].validation_alias or cls.model_fields[name].alias or to_camel(name)  # type: ignore[return-value]


def _with_shared_definitions(event_type: EventType, shared: dict[str, Any]) -> EventType:
    """Move the definitions of a schema to those of the document, in which references begin at the top."""
    names: dict[str, str] = {}

    def to_document(reference: str) -> str:
        return f"#/components/schemas/{names[reference.removeprefix(_DEFINITIONS)]}"

    definitions = event_type.schema.get("definitions", {})
    names |= {name: name if name not in shared else f"{name}_{len(shared)}" for name in definitions}
    for name, schema in definitions.items():
        shared[names[name]] = changed(schema, to_document)
    schema = {key: one for key, one in event_type.schema.items() if key != "definitions"}
    return replace(event_type, schema=changed(schema, to_document))


def _channel(channels: dict[str, dict[str, Any]], event_type: EventType) -> dict[str, Any]:
    """Return the channel of a type. Types with one subject, whose ids are in the same fields, share it."""
    locations = {
        name: {"location": f"$message.payload#{pointer(*path)}"}
        for name, path in event_type.parameters.items()
        if path != (name,)
    }
    new: dict[str, Any] = {"address": event_type.subject, "messages": {}}
    if locations:
        new["parameters"] = locations
    key = "_".join(token.strip("{}") for token in event_type.subject.split(".")[::2])
    for number in count(1):
        channel = channels.setdefault(key if number == 1 else f"{key}_{number}", new)
        if {**channel, "messages": {}} == {**new, "messages": {}}:
            return channel
    raise AssertionError("unreachable")


def _message(event_type: EventType) -> dict[str, Any]:
    payload: Any = event_type.schema
    if event_type.dialect == "2020-12":
        payload = {"schemaFormat": "application/schema+json;version=2020-12", "schema": payload}
    message: dict[str, Any] = {"name": event_type.name, "description": event_type.description, "payload": payload}
    vendor: dict[str, Any] = {}
    if event_type.version != 1:
        vendor["version"] = event_type.version
    if event_type.ephemeral:
        vendor["ephemeral"] = True
    if event_type.conflation:
        vendor["conflate"] = {"key": event_type.conflation.key, "windowMs": event_type.conflation.window_ms}
    return {**message, VENDOR: vendor} if vendor else message


def _description(cls: type[Event]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with references filled in, and without pydantic's titles and the writer's strictness.

    What contains itself stays a definition, as a tree must.
    """
    definitions = schema.get("$defs", {})
    kept = {name for name in definitions if f"#/$defs/{name}" in _reached(definitions, definitions[name])}

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(one) for one in node]
        if not isinstance(node, Mapping):
            return node
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            return {"$ref": f"{_DEFINITIONS}{name}"} if name in kept else walk(definitions[name])
        # A field may be called `title`. Its value is then a schema and not a text.
        return {
            **({"contentEncoding": "base64"} if node.get("format") == "base64" else {}),
            **{
                key: walk(value)
                for key, value in node.items()
                if not (key == "title" and isinstance(value, str))
                and (key, value) not in (("additionalProperties", False), ("format", "base64"))
            },
        }

    plain: dict[str, Any] = walk({key: value for key, value in schema.items() if key != "$defs"})
    plain.pop("description", None)
    if kept:
        plain["definitions"] = {name: walk(definitions[name]) for name in definitions if name in kept}
    return plain


def _reached(definitions: Mapping[str, Any], schema: Any) -> set[str]:
    """Return all references that a schema leads to, also through others."""
    found: set[str] = set()
    todo = references(schema)
    while todo:
        reference = todo.pop()
        if reference not in found:
            found.add(reference)
            todo += references(definitions[reference.rpartition("/")[2]])
    return found

"""Write `clients/js/src/events.d.ts`: the events as TypeScript declarations."""

import inspect
import json
from typing import Any

from beaconfire_kit.event import events
from scripts.derived.schema import metadata_schema, payload_schema

HEAD = """\
// Written by `make generate` from shared/src/beaconfire_kit/events. Do not edit.

/** One event as in an `event` frame, as the publisher sent it. It always has an id. */
export interface EventMessage<Type extends string, Version extends number, Payload> {
  readonly id: string;
  readonly type: Type;
  readonly version: Version;
  readonly payload: Payload;
  readonly metadata: EventMetadata;
}

/** The user and service that caused the event, and when. */
"""


def typings() -> str:
    """Return the whole file: the metadata, an interface for each payload, and `Events`, the messages by type."""
    parts = [HEAD + _interface("EventMetadata", metadata_schema())]
    messages = []
    for type_, cls in events().items():
        parts.append(f"/** {_comment(cls)} */\n{_interface(cls.__name__, payload_schema(cls))}")
        messages.append(f"  {json.dumps(type_)}: EventMessage<{json.dumps(type_)}, {cls.version}, {cls.__name__}>;\n")
    parts.append(
        f"/** Every event of the catalogue, by its type. */\nexport interface Events {{\n{''.join(messages)}}}\n"
    )
    parts.append("export type EventType = keyof Events;\nexport type AnyEvent = Events[EventType];\n")
    return "\n".join(parts)


def _comment(cls: type) -> str:
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split())


def _interface(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    fields = "".join(
        f"  readonly {field}{'' if field in required else '?'}: {_type(one)};\n"
        for field, one in schema["properties"].items()
    )
    if schema.get("additionalProperties") is True:
        fields += "  readonly [field: string]: unknown;\n"
    return f"export interface {name} {{\n{fields}}}\n"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    match schema.get("type"):
        case "string":
            return "string"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "boolean"
        case "null":
            return "null"
        case "array":
            items = _type(schema.get("items", {}))
            return f"readonly ({items})[]" if "|" in items else f"readonly {items}[]"
        case "object":
            return "Readonly<Record<string, unknown>>"
        case _:
            return "unknown"

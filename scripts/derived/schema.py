"""Describe the catalogue as JSON Schema. The reference and the typings are written from it."""

import json
from typing import Any

from beaconfire_kit.envelope import Metadata
from beaconfire_kit.event import Event, events

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"}


def payload_schema(cls: type[Event]) -> dict[str, Any]:
    """Return what readers accept as the payload: unknown fields pass, and a field with a default may be missing."""
    return _plain(cls.model_json_schema(by_alias=True, mode="validation"))


def metadata_schema() -> dict[str, Any]:
    """Return what readers accept as the metadata."""
    return _plain(Metadata.model_json_schema(by_alias=True, mode="validation"))


def message_schema(cls: type[Event]) -> dict[str, Any]:
    """Return the schema of one event's whole message."""
    return {
        "description": first_line(cls),
        "type": "object",
        "required": ["type", "version", "payload", "metadata"],
        "properties": {
            "id": _ID,
            "type": {"const": cls.type},
            "version": {"const": cls.version},
            "payload": payload_schema(cls),
            "metadata": {"$ref": "#/$defs/metadata"},
        },
    }


def schemas() -> str:
    """Return `docs/reference/schemas/events.json`: one schema for any message, with a definition for each event."""
    messages = {type_: message_schema(cls) for type_, cls in events().items()}
    document = {
        "$schema": DIALECT,
        "title": "Beaconfire events",
        "description": "Written by `make generate` from shared/src/beaconfire_kit/events. Do not edit.",
        "oneOf": [{"$ref": f"#/$defs/{type_}"} for type_ in messages],
        "$defs": {"metadata": metadata_schema(), **messages},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def first_line(cls: type[Event]) -> str:
    """Return the first line of an event's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with references filled in, and without pydantic's titles and the writer's strictness."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rpartition("/")[2]])
        # A field may be called `title`. Its value is then a schema and not a text.
        return {
            key: walk(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str)) and (key, value) != ("additionalProperties", False)
        }

    plain: dict[str, Any] = walk(schema)
    plain.pop("description", None)
    return plain

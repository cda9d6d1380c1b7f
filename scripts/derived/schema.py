"""The catalogue as JSON Schema, the form from which the reference and the typings are written."""

import json
from typing import Any

from beaconfire_kit.catalogue import Event, events
from beaconfire_kit.envelope import Metadata

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"}


def payload_schema(cls: type[Event]) -> dict[str, Any]:
    """What a reader takes as the payload: unknown fields pass, a field with a default may be missing."""
    return _plain(cls.model_json_schema(by_alias=True, mode="validation"))


def metadata_schema() -> dict[str, Any]:
    """What a reader takes as the metadata."""
    return _plain(Metadata.model_json_schema(by_alias=True, mode="validation"))


def message_schema(cls: type[Event]) -> dict[str, Any]:
    """The whole message of one event."""
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
    """`docs/reference/schemas/events.json`: one schema for any message, a definition for each event."""
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
    """The first line of an event's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema by itself: references filled in, pydantic's titles and the writer's strictness left out."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rpartition("/")[2]])
        # A field may be called `title`; then there is a schema behind the word, no text.
        return {
            key: walk(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str)) and (key, value) != ("additionalProperties", False)
        }

    plain: dict[str, Any] = walk(schema)
    plain.pop("description", None)
    return plain

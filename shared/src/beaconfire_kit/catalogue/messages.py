"""Schemas of whole messages: the envelope around the payload of an event type."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.references import moved
from beaconfire_kit.envelope import Metadata

_EVENT_ID = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$", "description": "Unique. A repeat is not stored."}


@cache
def metadata_schema() -> Mapping[str, Any]:
    """Return what readers accept as the metadata. It has no references."""
    schema = Metadata.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return plain(definitions[node["$ref"].rpartition("/")[2]])
        return {key: plain(value) for key, value in node.items() if key not in ("title", "default", "description")}

    schema = plain(schema)
    return {**schema, "required": sorted({*schema.get("required", ()), "timestamp"})}


def message_schema(event: EventType, *, at: str, metadata: str) -> dict[str, Any]:
    """Return the schema of a whole message, for a document that has it at the JSON Pointer `at`.

    `metadata` is a reference to the schema of the metadata there.
    """
    return {
        "type": "object",
        "required": ["type", "version", "payload", "metadata"],
        "properties": {
            "id": _EVENT_ID,
            "type": {"const": event.name},
            "version": {"const": event.version},
            "payload": moved(event.schema, f"{at}/properties/payload"),
            "metadata": {"$ref": metadata},
        },
    }

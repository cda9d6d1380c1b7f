"""Write `docs/reference/schemas/events.json`: a JSON Schema of every event's whole message."""

import json
from collections.abc import Iterable

from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.messages import message_schema, metadata_schema

DIALECT = "http://json-schema.org/draft-07/schema#"


def schemas(types: Iterable[EventType]) -> str:
    """Return the document: one schema for any message, with a definition for each event."""
    messages = {
        one.name: {
            "description": one.description.partition("\n")[0],
            **message_schema(one, at=f"#/definitions/{one.name}", metadata="#/definitions/metadata"),
        }
        for one in types
    }
    document = {
        "$schema": DIALECT,
        "title": "Beaconfire events",
        "description": "Written by `make generate` from shared/src/beaconfire_kit/events. Do not edit.",
        "oneOf": [{"$ref": f"#/definitions/{name}"} for name in messages],
        "definitions": {"metadata": metadata_schema(), **messages},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

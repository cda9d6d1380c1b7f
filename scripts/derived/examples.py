"""Make a valid example of every event from its model alone, so that a new event has one automatically."""

import json
from datetime import UTC, datetime
from typing import Any

from beaconfire_kit.envelope import Envelope, Metadata, read
from beaconfire_kit.event import Event
from scripts.derived.schema import payload_schema

MOMENT = "2026-11-21T10:00:00Z"
# Values for some fields. Every other field gets a value that is derived from its type.
WORDS: dict[str, Any] = {
    "rootKind": "campaign",
    "changedFields": ["name"],
    "affectedFields": ["food"],
    "previousTime": "1042-03-01T06:00:00Z",
    "newTime": "1042-03-01T18:00:00Z",
    "elapsedSeconds": 43200,
    "entityType": "location",
    "entityId": "l1",
    "root": "campaign:c1",
    "targetKind": "chat",
    "title": "Rebuild the north wall",
    "text": "The bridge is down.",
    "body": "A request waits for your decision.",
    "status": "running",
    "previousStatus": "waiting",
    "identifier": "ENG-12",
    "priority": "high",
    "changes": {"status": "done", "assigneeId": None},
    "error": "The model did not answer.",
}


def example(cls: type[Event]) -> dict[str, Any]:
    """Return a message of this event. Raises InvalidEvent if the model and this module do not agree."""
    payload = example_payload(cls)
    event = cls.model_validate_json(json.dumps(payload))
    metadata = Metadata(
        timestamp=datetime.fromisoformat(MOMENT).astimezone(UTC), user_id="u1", source="api", correlation_id="req-7"
    )
    body = Envelope(event, metadata, id=f"example-{cls.type}").encode()
    read(event.full_subject(), body)
    message: dict[str, Any] = json.loads(body)
    return message


def example_payload(cls: type[Event]) -> dict[str, Any]:
    """Return the payload with a value for every field."""
    return {name: _value(name, schema) for name, schema in payload_schema(cls)["properties"].items()}


def _value(name: str, schema: dict[str, Any]) -> Any:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    chosen = options[0]
    if "enum" in chosen:
        return chosen["enum"][0]
    if "const" in chosen:
        return chosen["const"]
    if name in WORDS:
        return WORDS[name]
    match chosen.get("type"):
        case "string" if chosen.get("format") == "date-time":
            return MOMENT
        case "string" if "pattern" in chosen:
            return f"{name[0]}1"
        case "string":
            return f"a {name}"
        case "integer" | "number":
            return max(1, chosen.get("minimum", 1))
        case "boolean":
            return True
        case "array":
            return [_value("item", chosen.get("items", {"type": "string"}))]
        case _:
            return {}

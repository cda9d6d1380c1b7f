"""Make an example of an event from its schema alone, so that every event has one automatically."""

import re
from collections.abc import Mapping
from typing import Any

from beaconfire_kit.catalogue import schemas
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.references import resolve

MOMENT = "2026-11-21T10:00:00Z"
_BY_FORMAT = {
    "date-time": MOMENT,
    "date": MOMENT[:10],
    "time": MOMENT[11:],
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/",
    "uuid": "7d9f8a52-3f0e-4d0a-9a55-0c8f6f2f4c11",
    "json-pointer": "/name",
    "regex": "^a$",
}
MAX_DEPTH = 12


def example_message(event: EventType) -> dict[str, Any] | None:
    """Return a valid message of this type. None if no valid payload was found."""
    payload = example_payload(event)
    if payload is None:
        return None
    metadata = {"timestamp": MOMENT, "userId": "u1", "source": "api", "correlationId": "req-7"}
    return {
        "id": f"example-{event.name}"[:128],
        "type": event.name,
        "version": event.version,
        "payload": payload,
        "metadata": metadata,
    }


def example_payload(event: EventType) -> dict[str, Any] | None:
    """Return a valid payload with a value for every property. None if none was found."""
    payload = _Maker(event.schema).value("payload", event.schema, 0)
    for name, path in event.parameters.items():
        # Where a root's kind is a parameter, as in membership events, it is one that readers know.
        _set_id(payload, path, "campaign" if event.subject.startswith(f"{{{name}}}.") else f"{path[-1][0]}1")
    return payload if isinstance(payload, dict) and schemas.compile(event).is_valid(payload) else None


def subject_of(event: EventType, payload: Mapping[str, Any]) -> str:
    """Return the subject of an example, whose ids are those of its payload or else made up."""

    def id_of(found: re.Match[str]) -> str:
        value: Any = payload
        for step in event.parameters.get(found[1], (found[1],)):
            value = value.get(step) if isinstance(value, dict) else None
        return value if isinstance(value, str) else f"{found[1][0]}1"

    path = re.sub(r"\{([^{}]+)\}", id_of, event.subject)
    return f"ephemeral.{path}" if event.ephemeral else path


def _set_id(payload: Any, path: tuple[str, ...], id_: str) -> None:
    """Put an id where the payload has one that its subject repeats, unless its schema has an example."""
    for step in path[:-1]:
        payload = payload.get(step) if isinstance(payload, dict) else None
    if isinstance(payload, dict) and payload.get(path[-1]) in (_some(path[-1]), f"{path[-1][0]}1"):
        payload[path[-1]] = id_


class _Maker:
    """Makes values for one schema, whose references point into it."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    def value(self, name: str, schema: Any, depth: int) -> Any:
        """Return a value for a schema. `name` is that of the property."""
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return {}
        if isinstance(schema.get("$ref"), str):
            return self.value(name, resolve(self._schema, schema["$ref"]), depth + 1)
        for given in ("examples", "enum"):
            if isinstance(schema.get(given), list) and schema[given]:
                return schema[given][0]
        for given in ("const", "default"):
            if schema.get(given) is not None:
                return schema[given]
        if isinstance(schema.get("allOf"), list):
            return self._all_of(name, schema, depth)
        for choice in ("oneOf", "anyOf"):
            if isinstance(schema.get(choice), list) and "type" not in schema and "properties" not in schema:
                options = [
                    one for one in schema[choice] if not (isinstance(one, Mapping) and one.get("type") == "null")
                ]
                return self.value(name, options[0], depth + 1) if options else None
        return self._of_type(name, schema, depth)

    def _all_of(self, name: str, schema: Mapping[str, Any], depth: int) -> Any:
        rest = {key: one for key, one in schema.items() if key != "allOf"}
        values = [self.value(name, one, depth + 1) for one in schema["allOf"]] + [self.value(name, rest, depth + 1)]
        objects = [one for one in values if isinstance(one, dict)]
        if len(objects) < len(values):
            return next(one for one in values if not isinstance(one, dict))
        return {key: one for value in objects for key, one in value.items()}

    def _of_type(self, name: str, schema: Mapping[str, Any], depth: int) -> Any:
        types = schema.get("type")
        if isinstance(types, list):
            types = next((one for one in types if one != "null"), "null")
        match types or ("object" if "properties" in schema else None):
            case "string":
                return _text(name, schema)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case "array":
                return self._list(name, schema, depth)
            case _:
                properties = schema.get("properties", {})
                wanted = (
                    properties
                    if depth < MAX_DEPTH // 2
                    else [key for key in properties if key in schema.get("required", ())]
                )
                return {key: self.value(key, properties[key], depth + 1) for key in wanted}

    def _list(self, name: str, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first, items = schema.get("prefixItems"), schema.get("items", {"type": "string"})
        if isinstance(items, list):
            first, items = items, schema.get("additionalItems", True)
        values = [self.value(name, one, depth + 1) for one in first or ()]
        least = schema.get("minItems", 0 if values or depth > MAX_DEPTH // 2 else 1)
        while len(values) < min(least, 100):
            values.append(self.value("item", items, depth + 1))
        return values


def _text(name: str, schema: Mapping[str, Any]) -> str:
    if schema.get("contentEncoding") == "base64":
        return "AQID"
    if schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1_000)
    if "pattern" in schema:
        return _matching(
            schema["pattern"],
            [f"{name[:1]}1", "a1", "A1", "1", "a", "A", "AB", "ab-1", "campaign:c1", MOMENT, "a" * 12],
        )
    return _some(name).ljust(least, ".")[:most]


def _some(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _matching(pattern: str, candidates: list[str]) -> str:
    matches = schemas.compiled_schema("draft-07", {"pattern": pattern}).is_valid
    return next(filter(matches, candidates), candidates[0])


def _number(schema: Mapping[str, Any]) -> float:
    step: float = schema.get("multipleOf", 1)
    most: float = schema.get("maximum", step)
    if "minimum" in schema or "exclusiveMinimum" in schema:
        least: float = schema.get("minimum", schema.get("exclusiveMinimum", 0) + step)
        return max(least, step) if most >= step else least
    return min(step, most)

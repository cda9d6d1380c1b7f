"""List the fields of a payload in words, for reference pages."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from beaconfire.derived.words import plain_text
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.references import resolve

MAX_DEPTH = 6
MAX_FIELDS = 500
_ID_PATTERN = "{1,64}$"


@dataclass(frozen=True, slots=True)
class Field:
    """One field, with its place in the payload: `stops[].city`."""

    path: str
    kind: str
    """Its type in words. Values are between backticks."""
    is_required: bool
    description: str


def fields(event: EventType) -> list[Field]:
    """Return the fields of the payload and of the objects in it, each followed by its own fields."""
    lister = _Lister(event.schema)
    return [one for _, one in zip(range(MAX_FIELDS), lister.fields(event.schema, "", ()), strict=False)]


class _Lister:
    """Lists the fields of one schema, whose references point into it."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    def fields(self, schema: Any, prefix: str, path: tuple[str, ...]) -> Iterator[Field]:
        """Yield the fields of an object. `path` has the references that led here, so that none is followed twice."""
        seen: set[str] = set()
        for part, path_ in self._parts(schema, path):
            properties = part.get("properties", {})
            for name, one in properties.items() if isinstance(properties, Mapping) else ():
                if name in seen:
                    continue
                seen.add(name)
                text = one.get("description", "") if isinstance(one, Mapping) else ""
                yield Field(
                    prefix + plain_text(name),
                    self.kind(one),
                    name in part.get("required", ()),
                    plain_text(text) if isinstance(text, str) else "",
                )
                if prefix.count(".") < MAX_DEPTH:
                    yield from self._inner(one, prefix + plain_text(name), path_)

    def kind(self, schema: Any, depth: int = 0) -> str:
        """Return a type in words."""
        if schema is False:
            return "never there"
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return "anything"
        if isinstance(schema.get("$ref"), str):
            return self.kind(self._target(schema["$ref"]), depth + 1)
        for choice in ("anyOf", "oneOf"):
            if isinstance(schema.get(choice), list) and "type" not in schema:
                return " or ".join(dict.fromkeys(self.kind(one, depth + 1) for one in schema[choice]))
        if isinstance(schema.get("allOf"), list) and "type" not in schema:
            return next(
                (kind for one in schema["allOf"] if (kind := self.kind(one, depth + 1)) != "anything"), "anything"
            )
        if isinstance(schema.get("enum"), list):
            return "one of " + ", ".join(map(_value, schema["enum"]))
        if "const" in schema:
            return _value(schema["const"])
        types = schema.get("type")
        if isinstance(types, list):
            return " or ".join(self.kind({**schema, "type": one}, depth + 1) for one in types) or "anything"
        return self._of_type(types or ("object" if "properties" in schema else ""), schema, depth)

    def _of_type(self, type_: str, schema: Mapping[str, Any], depth: int) -> str:
        match type_:
            case "string":
                return _text(schema)
            case "integer":
                return "whole number" + _bounds(schema)
            case "number":
                return "number" + _bounds(schema)
            case "boolean":
                return "`true` or `false`"
            case "array":
                items = schema.get("items", True)
                return "list" if isinstance(items, list) else f"list of {self.kind(items, depth + 1)}"
            case "object":
                others = schema.get("additionalProperties")
                plain = not schema.get("properties") and isinstance(others, Mapping)
                return f"object whose values are {self.kind(others, depth + 1)}" if plain else "object"
            case "null":
                return "`null`"
            case _:
                return "anything"

    def _inner(self, schema: Any, prefix: str, path: tuple[str, ...]) -> Iterator[Field]:
        """Yield the fields of the objects that a field holds."""
        for part, path_ in self._parts(schema, path):
            if "properties" in part:
                yield from self.fields(part, f"{prefix}.", path_)
            elif isinstance(part.get("items"), Mapping):
                yield from self._inner(part["items"], f"{prefix}[]", path_)
            elif isinstance(part.get("additionalProperties"), Mapping):
                yield from self._inner(part["additionalProperties"], f"{prefix}.*", path_)

    def _parts(self, schema: Any, path: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
        """Yield a schema and those that it combines, each with the references that led to it."""
        if not isinstance(schema, Mapping) or len(path) > MAX_DEPTH:
            return
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference not in path:
                yield from self._parts(self._target(reference), (*path, reference))
            return
        yield schema, path
        for combination in ("allOf", "anyOf", "oneOf"):
            for one in schema.get(combination, ()):
                yield from self._parts(one, (*path, ""))

    def _target(self, reference: str) -> Any:
        try:
            return resolve(self._schema, reference)
        except LookupError:
            return True


def _text(schema: Mapping[str, Any]) -> str:
    match schema.get("format"):
        case "date-time":
            return "time"
        case str(format_):
            return f"text: {plain_text(format_)}"
    if str(schema.get("pattern", "")).endswith(_ID_PATTERN):
        return "id"
    if "maxLength" in schema:
        return f"text of up to {schema['maxLength']:,} characters"
    return f"text that matches {_value(schema['pattern'])}" if "pattern" in schema else "text"


def _bounds(schema: Mapping[str, Any]) -> str:
    least = f" from {schema['minimum']}" if "minimum" in schema else ""
    return f"{least} to {schema['maximum']}" if "maximum" in schema else least


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{plain_text(text).replace('`', '')}`"

"""Follow the references of a JSON Schema that point into itself, and move a schema into a larger document."""

from collections.abc import Callable, Mapping
from typing import Any

from beaconfire_kit.catalogue.pointers import target_of, value_at

_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data. What looks like a reference there is none."""
_BY_NAME = frozenset({"properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies"})
"""Keywords with a schema for each name. A property may be called `$ref` or `enum`."""


def resolve(schema: Mapping[str, Any], reference: str) -> Any:
    """Return what a reference like `#/definitions/address` points to. Raises NotFound, a LookupError."""
    return schema if reference == "#" else value_at(schema, target_of(reference))


def references(schema: Any) -> list[str]:
    """Return the references of a schema and of all schemas in it, in order."""
    found: list[str] = []

    def note(reference: str) -> str:
        found.append(reference)
        return reference

    changed(schema, note)
    return found


def moved(schema: Any, to: str) -> Any:
    """Return a copy whose references work in a document that has the schema at `to`: `#/components/schemas/…`."""
    return changed(schema, lambda reference: to + reference.removeprefix("#"))


def changed(schema: Any, change: Callable[[str], str]) -> Any:
    """Return a copy of a schema with each reference changed."""
    if isinstance(schema, list):
        return [changed(one, change) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            copy[key] = change(value)
        elif key in _DATA:
            copy[key] = value
        elif key in _BY_NAME and isinstance(value, Mapping):
            copy[key] = {name: changed(one, change) for name, one in value.items()}
        else:
            copy[key] = changed(value, change)
    return copy

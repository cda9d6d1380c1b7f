"""Read the payload schemas of a document: follow their references, and make each complete in itself. No I/O."""

import re
from collections.abc import Mapping
from itertools import chain, count
from typing import Any, Literal

from beaconfire_kit.catalogue import pointers
from beaconfire_kit.catalogue.fragment import Problem
from beaconfire_kit.catalogue.pointers import NotFound, below

Dialect = Literal["draft-07", "2020-12"]

_SCHEMA = frozenset(
    {"not", "if", "then", "else", "additionalProperties", "additionalItems", "propertyNames", "contains", "items"}
)
_SCHEMAS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})


class PayloadReader:
    """Reads the schemas of one document. Adds what is wrong to the lists that it was given."""

    def __init__(self, document: Mapping[str, Any], problems: list[Problem], warnings: list[Problem]) -> None:
        self._document = document
        self._problems = problems
        self._warnings = warnings

    def read(self, place: str) -> tuple[Mapping[str, Any], Dialect] | None:
        """Return the schema at a place, complete in itself, and its dialect. None if it cannot be used."""
        before = len(self._problems)
        try:
            found, place = pointers.follow(self._document, place)
        except NotFound as error:
            self._refuse(place, f"The reference cannot be used: {error}.")
            return None
        dialect: Dialect = "draft-07"
        if isinstance(found, Mapping) and "schemaFormat" in found:
            dialect = "2020-12" if "2020-12" in str(found["schemaFormat"]) else "draft-07"
            found, place = found.get("schema"), below(place, "schema")
        if not isinstance(found, Mapping):
            self._refuse(place, "Here must be a schema.")
            return None
        definitions: dict[str, Any] = {}
        schema = self._complete(found, place, {}, definitions)
        if definitions:
            schema["definitions"] = definitions
        return None if len(self._problems) > before else (schema, dialect)

    def _complete(self, node: Any, place: str, names: dict[str, str], definitions: dict[str, Any]) -> Any:
        if not isinstance(node, Mapping):
            return node
        if "$ref" in node:
            return {"$ref": f"#/definitions/{self._define(node['$ref'], place, names, definitions)}"}
        complete: dict[str, Any] = {}
        for key, value in node.items():
            here = below(place, key)
            if key in ("definitions", "$defs"):
                continue
            if key in _SCHEMAS and isinstance(value, list):
                complete[key] = [
                    self._complete(one, below(here, index), names, definitions) for index, one in enumerate(value)
                ]
            elif key in _SCHEMA:
                complete[key] = self._complete(value, here, names, definitions)
            elif key in _NAMED and isinstance(value, Mapping):
                complete[key] = {
                    name: self._complete(one, below(here, name), names, definitions) for name, one in value.items()
                }
            else:
                complete[key] = value
        return complete

    def _define(self, reference: Any, place: str, names: dict[str, str], definitions: dict[str, Any]) -> str:
        try:
            target = pointers.target_of(reference)
            found = pointers.value_at(self._document, target)
        except NotFound as error:
            self._refuse(below(place, "$ref"), f"The reference {reference!r} cannot be used: {error}.")
            return ""
        if target not in names:
            names[target] = name = _new_name(target, names)
            definitions[name] = self._complete(found, target, names, definitions)
        return names[target]

    def _refuse(self, place: str, message: str) -> None:
        self._problems.append(Problem(place, message))


def _new_name(target: str, names: Mapping[str, str]) -> str:
    """Return the name of a definition: that of its place in the document, which types and docs show."""
    last = re.sub(r"[^A-Za-z0-9_-]", "_", pointers.tokens(target)[-1])
    return next(one for one in chain([last], (f"{last}_{number}" for number in count(2))) if one not in names.values())

"""Know the keywords of JSON Schema: those of each dialect, what is inside them, and what is wrong. No I/O."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jsonschema_rs

from beaconfire_kit.catalogue import patterns
from beaconfire_kit.catalogue.fragment import Problem
from beaconfire_kit.catalogue.pointers import below

Dialect = Literal["draft-07", "2020-12"]

ONE = frozenset(
    {"not", "if", "then", "else", "additionalProperties", "additionalItems", "propertyNames", "contains", "items"}
)
"""Keywords whose value is a schema."""
LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
"""Keywords whose value is a list of schemas."""
NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
"""Keywords whose value is a mapping to schemas."""

FORMATS = frozenset(
    {
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uuid",
        "json-pointer",
        "relative-json-pointer",
        "uri-template",
    }
)
"""Formats that are checked. Any other is ignored, with a warning."""
MIN_MULTIPLE = 1e-9

_FORMATS_FOR_READERS = frozenset(
    {"int32", "int64", "float", "double", "decimal", "byte", "binary", "password", "color"}
)
UNSAFE_NAME = "__proto__"

_TEXTS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "readOnly",
        "writeOnly",
        "deprecated",
        "externalDocs",
        "discriminator",
        "$comment",
        "$schema",
        "definitions",
        "$defs",
    }
)
_ASSERTIONS = frozenset(
    {
        "type",
        "enum",
        "const",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "format",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxProperties",
        "minProperties",
        "required",
        "contentMediaType",
        "contentEncoding",
    }
)
_CHECKED_VALUES = _ASSERTIONS | {"dependentRequired", "minContains", "maxContains"}
_ONLY_2020_12 = frozenset({"prefixItems", "dependentSchemas", "dependentRequired", "minContains", "maxContains"})
_ONLY_DRAFT_07 = frozenset({"additionalItems", "dependencies"})
_REFUSED = {
    "$id": "changes what references point to. Remove it.",
    "$anchor": "gives a schema a second name. Refer to it as '#/components/schemas/…'.",
    "$dynamicRef": "depends on the way to a schema. Write a plain $ref.",
    "$dynamicAnchor": "depends on the way to a schema. Write a plain $ref.",
    "$recursiveRef": "lets a schema contain itself. Write the levels out, or allow any object inside.",
    "$recursiveAnchor": "lets a schema contain itself. Write the levels out, or allow any object inside.",
    "$vocabulary": "changes the meaning of keywords. Remove it.",
    "unevaluatedProperties": "takes unbounded time. Use additionalProperties.",
    "unevaluatedItems": "takes unbounded time. Use additionalItems, or items beside prefixItems.",
    "nullable": "belongs to OpenAPI and has no effect here. Write `type: [string, 'null']`.",
}
_BESIDE_REF = _TEXTS | {"$ref"}
_KNOWN = LISTED | NAMED | ONE | _ASSERTIONS | _ONLY_2020_12 | _TEXTS | {"$ref"}


def problems_of(node: Mapping[str, Any], place: str, dialect: Dialect) -> Iterator[Problem]:
    """Yield what is wrong with the keywords of one schema. The schemas inside it are not looked at."""
    for key, value in node.items():
        if message := _problem(key, value, dialect):
            yield Problem(below(place, key), message)
    beside = [key for key in node if key not in _BESIDE_REF and not key.startswith("x-")]
    if "$ref" in node and dialect == "draft-07" and beside:
        yield Problem(
            below(place, beside[0]),
            f"`{beside[0]}` stands beside $ref, where draft-07 ignores it. Write `allOf: [{{$ref: …}}, {{…}}]`.",
        )


def warnings_of(node: Mapping[str, Any], place: str, dialect: Dialect) -> Iterator[Problem]:
    """Yield which keywords of one schema are ignored."""
    for key, value in node.items():
        if key not in _KNOWN and key not in _REFUSED and not key.startswith("x-"):
            yield Problem(below(place, key), f"`{key}` is not a keyword of {dialect}, and is ignored.")
        if key == "format" and isinstance(value, str) and value not in FORMATS | _FORMATS_FOR_READERS | {"regex"}:
            yield Problem(below(place, key), f"The format {_show(value)} is unknown, and is not checked.")


def schemas_in(node: Mapping[str, Any], key: str) -> list[Any]:
    """Return the schemas in the value of a keyword. The lists of names in `dependencies` are none."""
    value = node.get(key)
    if key in LISTED and isinstance(value, list):
        return value
    if key in NAMED and isinstance(value, Mapping):
        return [one for one in value.values() if not isinstance(one, list)]
    return [value] if key in ONE and value is not None else []


def definitions_key(dialect: Dialect) -> str:
    """Return the keyword that holds the definitions of a schema."""
    return "definitions" if dialect == "draft-07" else "$defs"


def _problem(key: str, value: Any, dialect: Dialect) -> str:
    if key in _REFUSED:
        return f"`{key}` {_REFUSED[key]}"
    if key in (_ONLY_2020_12 if dialect == "draft-07" else _ONLY_DRAFT_07):
        return _of_other_dialect(key, dialect)
    if key == "items" and dialect == "2020-12" and isinstance(value, list):
        return "`items` is a list of schemas. In 2020-12 this keyword is called prefixItems."
    if key in LISTED - {"items"} and (not isinstance(value, list) or not value):
        return f"`{key}` is {_show(value)}. Write a list of schemas."
    return _wrong_value(key, value, dialect) if key in _CHECKED_VALUES else ""


def _wrong_value(key: str, value: Any, dialect: Dialect) -> str:
    """Return what is wrong with the value of a keyword. Empty if it is right."""
    if key == "pattern" and isinstance(value, str):
        return patterns.problem_of(value)
    if key == "format" and value == "regex":
        return "The format 'regex' lets an event bring a pattern of its own. Remove it."
    if key == "enum" and value == []:
        return "`enum` is empty, so no event would be valid. List the allowed values."
    if key == "required" and isinstance(value, list) and UNSAFE_NAME in value:
        return "A field called '__proto__' changes objects in JavaScript. Rename it."
    if key == "multipleOf" and isinstance(value, float) and value < MIN_MULTIPLE:
        return f"`multipleOf` is {value}, and at least {MIN_MULTIPLE} is needed. Use a larger step, or count in units."
    try:
        meta = jsonschema_rs.Draft7Validator if dialect == "draft-07" else jsonschema_rs.Draft202012Validator
        meta({key: value}, offline=True, validate_formats=False)
    except ValueError as error:
        reason = str(error).splitlines()[0][:200]
        return f"`{key}` is {_show(value)}, which JSON Schema does not allow: {reason}."
    return ""


def _of_other_dialect(key: str, dialect: Dialect) -> str:
    if dialect == "draft-07":
        return (
            f"`{key}` belongs to 2020-12, and this schema is draft-07. Write "
            "`payload: {schemaFormat: 'application/schema+json;version=2020-12', schema: …}`."
        )
    instead = "items beside prefixItems" if key == "additionalItems" else "dependentRequired or dependentSchemas"
    return f"`{key}` belongs to draft-07, and this schema is 2020-12. Write {instead}."


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"

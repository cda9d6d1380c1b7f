"""A schema that is called wider accepts every payload that the old one accepts."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from beaconfire_kit.catalogue import schemas
from beaconfire_kit.catalogue.widening import breaks

Schema = dict[str, Any]

WIDER: Mapping[str, tuple[Any, Any]] = {
    "nothing changes": ({"type": "string"}, {"type": "string"}),
    "a text changes": ({"type": "string", "title": "a"}, {"type": "string", "description": "b", "examples": ["c"]}),
    "a new optional field": ({"properties": {}}, {"properties": {"a": {"type": "string"}}}),
    "a field is not required any more": ({"required": ["a", "b"]}, {"required": ["b"]}),
    "a larger maximum": ({"maximum": 3}, {"maximum": 4}),
    "a maximum that is included": ({"exclusiveMaximum": 3}, {"maximum": 3}),
    "a smaller minimum": ({"minimum": 3}, {"exclusiveMinimum": 2}),
    "a bound is removed": ({"minLength": 3, "maxItems": 3}, {}),
    "longer texts": ({"maxLength": 3}, {"maxLength": 4}),
    "one more value": ({"enum": ["a"]}, {"enum": ["b", "a"]}),
    "a constant becomes a list": ({"const": 1}, {"enum": [1.0, 2]}),
    "one more type": ({"type": "string"}, {"type": ["string", "null"]}),
    "whole numbers become numbers": ({"type": "integer"}, {"type": "number"}),
    "a pattern is removed": ({"type": "string", "pattern": "^a"}, {"type": "string"}),
    "a format is removed": ({"format": "date"}, {}),
    "a multiple of a smaller step": ({"multipleOf": 10}, {"multipleOf": 5}),
    "a list may repeat items": ({"uniqueItems": True}, {"uniqueItems": False}),
    "wider items": ({"items": {"maxLength": 1}}, {"items": {"maxLength": 2}}),
    "a text may also be null": ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "one more alternative": (
        {"anyOf": [{"type": "string"}]},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
    ),
    "one condition less": ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, {"allOf": [{"maximum": 4}]}),
    "a prohibition is removed": ({"not": {"type": "string"}}, {}),
    "other fields are open": ({"additionalProperties": False}, {"additionalProperties": {"type": "string"}}),
    "a field of the type of all others": (
        {"additionalProperties": {"type": "string"}},
        {"additionalProperties": {"type": "string"}, "properties": {"a": {"type": ["string", "null"]}}},
    ),
    "a definition gets another name": (
        {"properties": {"a": {"$ref": "#/definitions/A"}}, "definitions": {"A": {"type": "string"}}},
        {"properties": {"a": {"$ref": "#/definitions/B"}}, "definitions": {"B": {"type": ["string", "null"]}}},
    ),
    "a tree gets a field": (
        {
            "$ref": "#/definitions/T",
            "definitions": {"T": {"properties": {"children": {"items": {"$ref": "#/definitions/T"}}}}},
        },
        {
            "$ref": "#/definitions/T",
            "definitions": {
                "T": {"properties": {"children": {"items": {"$ref": "#/definitions/T"}}, "name": {"type": "string"}}}
            },
        },
    ),
    "an alternative is written anew": (
        {"oneOf": [{"type": "string", "title": "a"}]},
        {"oneOf": [{"type": "string", "description": "b"}]},
    ),
}
BROKEN: Mapping[str, tuple[Any, Any, tuple[str | int, ...]]] = {
    "a required field": ({}, {"required": ["a"]}, ("required",)),
    "a field is not declared": ({"properties": {"a": {}}}, {"properties": {}}, ("properties",)),
    "a value less": ({"enum": ["a", "b"]}, {"enum": ["a"]}, ("enum",)),
    "an enum for any value": ({}, {"enum": ["a"]}, ("enum",)),
    "true is not 1": ({"const": 1}, {"enum": [True]}, ("enum",)),
    "a type less": ({"type": ["string", "null"]}, {"type": "string"}, ("type",)),
    "a type for any value": ({}, {"type": "string"}, ("type",)),
    "numbers become whole": ({"type": "number"}, {"type": "integer"}, ("type",)),
    "a smaller maximum": ({"maximum": 3}, {"exclusiveMaximum": 3}, ("exclusiveMaximum",)),
    "a larger minimum": ({"minimum": 3}, {"minimum": 4}, ("minimum",)),
    "a shorter text": ({"maxLength": 3}, {"maxLength": 2}, ("maxLength",)),
    "a longer list": ({}, {"minItems": 1}, ("minItems",)),
    "another pattern": ({"pattern": "a"}, {"pattern": "a|b"}, ("pattern",)),
    "another format": ({"format": "date"}, {"format": "date-time"}, ("format",)),
    "a larger step": ({"multipleOf": 5}, {"multipleOf": 10}, ("multipleOf",)),
    "items must differ": ({}, {"uniqueItems": True}, ("uniqueItems",)),
    "other fields are closed": ({}, {"additionalProperties": False}, ("additionalProperties",)),
    "a field of another type than all others": (
        {"additionalProperties": {"type": "string"}},
        {"additionalProperties": {"type": "string"}, "properties": {"a": {"type": "integer"}}},
        ("properties", "a", "type"),
    ),
    "a field deep inside": (
        {"properties": {"a": {"items": {"properties": {"b": {"type": "string"}}}}}},
        {"properties": {"a": {"items": {"properties": {"b": {"type": "integer"}}}}}},
        ("properties", "a", "items", "properties", "b", "type"),
    ),
    "wider inside not": ({"not": {"maximum": 3}}, {"not": {"maximum": 4}}, ("not",)),
    "wider inside oneOf": (
        {"oneOf": [{"enum": ["a"]}, {"enum": ["b"]}]},
        {"oneOf": [{"enum": ["a"]}, {"enum": ["a", "b"]}]},
        ("oneOf",),
    ),
    "wider inside if": (
        {"if": {"maximum": 3}, "then": {"minimum": 1}},
        {"if": {"maximum": 4}, "then": {"minimum": 1}},
        ("if",),
    ),
    "wider names": ({"propertyNames": {"maxLength": 3}}, {"propertyNames": {"maxLength": 4}}, ("propertyNames",)),
    "another dependency": ({"dependencies": {"a": ["b"]}}, {"dependencies": {"a": ["b", "c"]}}, ("dependencies",)),
    "an alternative less": (
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"anyOf": [{"type": "null"}]},
        ("anyOf", 0, "type"),
    ),
    "one condition more": (
        {"allOf": [{"minimum": 1}]},
        {"allOf": [{"minimum": 1}, {"maximum": 3}]},
        ("allOf", 1, "maximum"),
    ),
    "a field with a second meaning": (
        {"allOf": [{"properties": {"a": {"type": "string"}}}, {}]},
        {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "integer"}}}]},
        ("allOf", 1, "properties", "a"),
    ),
    "a keyword that is unknown": ({"speed": 1}, {"speed": 2}, ("speed",)),
    "nothing is valid": ({}, False, ()),
}


@pytest.mark.parametrize("case", WIDER)
def test_wider_schema_breaks_nothing(case: str) -> None:
    old, new = WIDER[case]

    assert breaks(old, new) == []


@pytest.mark.parametrize("case", BROKEN)
def test_narrower_schema_breaks_at_its_place(case: str) -> None:
    old, new, path = BROKEN[case]

    found = breaks(old, new)

    assert [one.path for one in found] == [path]
    assert found[0].message.endswith(".")


NAMES = st.sampled_from("abc")
SCALARS = st.sampled_from(["", "a", "ab", "abc", 0, 1, 2, 3, 1.5, True, None])


def schemas_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    fields = st.dictionaries(NAMES, inner, max_size=3)
    types = ["string", "integer", "number", "boolean", "null", "array", "object"]
    keyword = st.one_of(
        st.fixed_dictionaries(
            {"type": st.sampled_from(types) | st.lists(st.sampled_from(types), min_size=1, unique=True)}
        ),
        st.fixed_dictionaries({"enum": st.lists(SCALARS, min_size=1, max_size=4, unique_by=repr)}),
        st.fixed_dictionaries({"const": SCALARS}),
        *(
            st.fixed_dictionaries({name: st.integers(0, 3)})
            for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")
        ),
        *(st.fixed_dictionaries({name: st.integers(0, 2)}) for name in ("minItems", "maxItems", "maxProperties")),
        st.fixed_dictionaries({"multipleOf": st.sampled_from([1, 2, 3, 0.5])}),
        st.fixed_dictionaries({"pattern": st.sampled_from(["a", "^a", "b$"])}),
        st.fixed_dictionaries({"uniqueItems": st.booleans()}),
        st.fixed_dictionaries({"required": st.lists(NAMES, unique=True, max_size=2)}),
        st.fixed_dictionaries({"properties": fields}),
        st.fixed_dictionaries({"additionalProperties": inner}),
        st.fixed_dictionaries({"patternProperties": st.fixed_dictionaries({"^a": inner})}),
        st.fixed_dictionaries({"items": inner | st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"contains": inner}),
        *(
            st.fixed_dictionaries({name: st.lists(inner, min_size=1, max_size=2)})
            for name in ("allOf", "anyOf", "oneOf")
        ),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner}),
        st.fixed_dictionaries({"dependencies": st.dictionaries(NAMES, inner, max_size=1)}),
    )
    return st.lists(keyword, max_size=3).map(lambda parts: {key: one for part in parts for key, one in part.items()})


ANY_SCHEMA: st.SearchStrategy[Any] = st.recursive(st.just({}) | st.booleans(), schemas_of, max_leaves=6)
PAYLOADS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, schema: Any) -> Any:
    """A schema near another one: some of its parts are changed, added or taken away."""
    if not isinstance(schema, dict) or draw(st.integers(0, 9)) == 0:
        return draw(ANY_SCHEMA)
    copy: dict[str, Any] = {}
    for key, value in schema.items():
        match draw(st.integers(0, 5)):
            case 0:
                continue
            case 1 if isinstance(value, int) and not isinstance(value, bool):
                copy[key] = max(value + draw(st.sampled_from([-1, 1])), 1 if key == "multipleOf" else 0)
            case 1 if key in ("enum", "required", "type") and isinstance(value, list):
                copy[key] = value[:1] if draw(st.booleans()) else [*value, "a" if key != "type" else "null"]
                copy[key] = list({repr(one): one for one in copy[key]}.values())
            case _ if key in ("properties", "patternProperties", "dependencies"):
                copy[key] = {name: draw(changed(one)) if draw(st.booleans()) else one for name, one in value.items()}
                if key == "properties":
                    copy[key] |= draw(st.dictionaries(NAMES, ANY_SCHEMA, max_size=1))
            case _ if key in ("allOf", "anyOf", "oneOf"):
                copy[key] = [draw(changed(one)) if draw(st.booleans()) else one for one in value]
                copy[key] += draw(st.lists(ANY_SCHEMA, max_size=1))
            case _ if key in ("items", "additionalProperties", "not", "contains", "if", "then") and isinstance(
                value, dict
            ):
                copy[key] = draw(changed(value))
            case _:
                copy[key] = value
    return copy


def has_only_names_of(schema: Any, value: Any) -> bool:
    """Whether every field of a value is declared somewhere in the schema. A field that is not may get a meaning."""
    if isinstance(value, dict):
        names = repr(schema)
        return all(f"{name!r}: " in names and has_only_names_of(schema, one) for name, one in value.items())
    return all(has_only_names_of(schema, one) for one in value) if isinstance(value, list) else True


@settings(max_examples=500, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.data())
def test_payload_that_was_valid_is_valid_under_every_wider_schema(data: st.DataObject) -> None:
    old = data.draw(ANY_SCHEMA)
    new = data.draw(changed(old))
    assume(old != new and not breaks(old, new))
    before = schemas.compiled_schema("draft-07", old)
    after = schemas.compiled_schema("draft-07", new)
    for payload in data.draw(st.lists(PAYLOADS, min_size=8, max_size=8)):
        if before.is_valid(payload) and has_only_names_of(old, payload):
            assert after.is_valid(payload), (old, new, payload)

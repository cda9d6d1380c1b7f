"""Payload schemas are compiled so that errors are cheap, name the place, and show no values."""

from typing import Any

import pytest

from beaconfire_kit.catalogue import patterns, schemas
from beaconfire_kit.catalogue.fragment import EventType


def event_type(schema: dict[str, Any], name: str = "parcel.moved") -> EventType:
    return EventType(name, 1, "depot.{depotId}", {}, schema)


def error(schema: dict[str, Any], payload: Any) -> tuple[str, str] | None:
    return schemas.first_error(schemas.compile(event_type(schema)), payload)


def test_equal_schemas_share_one_validator() -> None:
    first = schemas.compile(event_type({"type": "object", "required": ["a"]}))

    assert schemas.compile(event_type({"required": ["a"], "type": "object"}, "another")) is first


SHAPES = {"properties": {"a": {"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}}


@pytest.mark.parametrize(
    ("schema", "payload", "expected"),
    [
        ({"properties": {"a": {"type": "string"}}}, {"a": 1}, ("a", '… is not of type "string"')),
        ({"required": ["a"]}, {}, ("", '"a" is a required property')),
        (SHAPES, {"a": ["x", 1]}, ("a.1", "it fits none of the alternatives (anyOf)")),
        (
            {"properties": {"a": {"oneOf": [{"minimum": 1}, {"minimum": 2}]}}},
            {"a": 3},
            ("a", "it does not fit exactly one of the alternatives (oneOf)"),
        ),
        ({"properties": {"a": {"not": {"type": "string"}}}}, {"a": "x"}, ("a", "the schema forbids it (not)")),
        (
            {"propertyNames": {"maxLength": 3}},
            {"SECRET": 1},
            ("", "the schema does not allow one of its keys (propertyNames)"),
        ),
        ({"properties": {"a": {"const": 1}}}, {"a": "SECRET"}, ("a", "1 was expected")),
        (SHAPES, {"a": ["x", None]}, None),
    ],
)
def test_first_error_names_the_place_and_no_value(schema: Any, payload: Any, expected: Any) -> None:
    assert error(schema, payload) == expected


def test_error_inside_alternatives_collects_no_errors_of_the_branches() -> None:
    """The library makes an object of each error of each branch: 320,000 for this payload."""
    schema = {
        "properties": {"a": {"anyOf": [{"items": {"minLength": length, "type": "string"}} for length in range(10)]}}
    }
    validator = schemas.compile(event_type(schema))

    with pytest.raises(ValueError, match="not allowed") as refused:
        validator.validate({"a": [1] * 32_000})

    assert refused.value.kind.name == "not"  # type: ignore[attr-defined]


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_schema_means_the_same_without_contexts(keyword: str) -> None:
    schema = {
        "allOf": [{"type": ["integer", "string"]}],
        keyword: [{"type": "string"}, {keyword: [{"minimum": 5}, {"maximum": 3}]}],
        "properties": {"x": {keyword: [True, False]}},
        "definitions": {"anyOf": {keyword: [{}]}},
    }
    rewritten = schemas.without_contexts(schema)
    validators = [schemas._VALIDATORS["draft-07"](one) for one in (schema, rewritten)]

    for value in (1, 4, 6, "a", None, {"x": 1}):
        assert len({validator.is_valid(value) for validator in validators}) == 1, value


@pytest.mark.parametrize("pattern", ["^[A-Z]{2}[0-9]+$", r"^[^@]+@[^@]+\.[^@]+$", "^.{1,500}$", r"\d{4}-\d{2}"])
def test_ordinary_pattern_is_allowed(pattern: str) -> None:
    assert patterns.problem_of(pattern) == ""

"""Examples are made from schemas alone."""

from typing import Any

import pytest

from beaconfire_kit.catalogue import schemas
from beaconfire_kit.catalogue.examples import example_payload, subject_of
from beaconfire_kit.catalogue.fragment import EventType
from tests.tools.derived.catalogues import builtin_catalogue, hostile_catalogue

TYPES = [event for versions in builtin_catalogue().types.values() for event in versions.values()]


def event_type(schema: dict[str, Any]) -> EventType:
    return EventType("parcel.moved", 1, "depot.{depotId}", {"depotId": ("depotId",)}, schema)


@pytest.mark.parametrize("event", TYPES, ids=lambda event: event.name)
def test_every_builtin_event_has_an_example_with_its_ids(event: EventType) -> None:
    payload = example_payload(event)

    assert payload is not None
    assert "{" not in subject_of(event, payload)


def test_example_of_a_hostile_schema_is_valid_or_left_out() -> None:
    for versions in hostile_catalogue().types.values():
        for event in versions.values():
            payload = example_payload(event)
            assert payload is None or schemas.compile(event).is_valid(payload)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "examples": ["Berlin"], "pattern": "^B"}, "Berlin"),
        ({"type": "string", "format": "date"}, "2026-11-21"),
        ({"type": "string", "minLength": 8, "maxLength": 8}, "a field.."[:8]),
        ({"type": "string", "pattern": "^[A-Z]{2}$"}, "AB"),
        ({"type": "integer", "minimum": 5, "maximum": 9}, 5),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "number", "exclusiveMinimum": 3}, 4),
        ({"type": ["null", "boolean"]}, True),
        ({"anyOf": [{"type": "null"}, {"const": 7}]}, 7),
        ({"type": "array", "items": {"enum": ["x"]}, "minItems": 2}, ["x", "x"]),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
    ],
)
def test_value_fits_what_the_schema_says(schema: dict[str, Any], expected: object) -> None:
    payload = example_payload(event_type({"type": "object", "properties": {"field": schema}}))

    assert payload == {"field": expected}


def test_schema_that_no_simple_value_fits_has_no_example() -> None:
    schema = {"type": "object", "properties": {"field": {"type": "string", "pattern": "^[0-9]{7}x[0-9]{3}$"}}}

    assert example_payload(event_type(schema)) is None


def test_example_of_a_schema_that_contains_itself_ends() -> None:
    schema = {
        "$ref": "#/definitions/node",
        "definitions": {"node": {"properties": {"next": {"$ref": "#/definitions/node"}}}},
    }

    assert example_payload(event_type(schema)) is not None

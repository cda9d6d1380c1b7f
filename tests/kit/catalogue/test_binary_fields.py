"""Which fields of a payload are bytes, by its schema; and that these fields hold base64."""

from typing import Any, ClassVar

import pytest
from pydantic import Base64Bytes

from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.binary_fields import BinaryFields
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.compatibility import compare
from beaconfire_kit.catalogue.from_classes import payload_schema
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue.schemas import compiled_schema
from beaconfire_kit.event import Event

ENCODED: dict[str, Any] = {"type": "string", "contentEncoding": "base64"}


def document(payload: dict[str, Any], schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pictures", "version": "1"},
        "x-beaconfire": {"fragment": "pictures"},
        "channels": {"p": {"address": "campaign.{campaignId}.p.{pId}", "messages": {"p.shown": {"payload": payload}}}},
        "components": {"schemas": schemas or {}},
    }


def converted(payload: Any, schema: dict[str, Any], schemas: dict[str, Any] | None = None) -> Any:
    fields = BinaryFields()
    fragment = read_fragment(document(schema, schemas))
    fields.learn(Catalogue.of(1, {**builtin.fragments(), "pictures": fragment}))
    return fields.with_bytes({"type": "p.shown", "version": 1, "payload": payload})["payload"]


@pytest.mark.parametrize(
    ("schema", "payload", "expected"),
    [
        ({"properties": {"a": ENCODED}}, {"a": "AQ==", "b": "AQ=="}, {"a": b"\x01", "b": "AQ=="}),
        ({"properties": {"a": {"type": "array", "items": ENCODED}}}, {"a": ["AQ==", ""]}, {"a": [b"\x01", b""]}),
        ({"additionalProperties": ENCODED}, {"x": "AQ=="}, {"x": b"\x01"}),
        ({"properties": {"a": {"anyOf": [ENCODED, {"type": "null"}]}}}, {"a": None}, {"a": None}),
        ({"properties": {"a": {"anyOf": [ENCODED, {"type": "string"}]}}}, {"a": "no base64!"}, {"a": "no base64!"}),
        ({"allOf": [{"properties": {"a": ENCODED}}]}, {"a": "AQ=="}, {"a": b"\x01"}),
        ({"properties": {"a": {"type": "string"}}}, {"a": "AQ=="}, {"a": "AQ=="}),
    ],
    ids=["field", "list", "other fields", "null", "alternative", "all of", "no bytes"],
)
def test_declared_base64_becomes_bytes(schema: dict[str, Any], payload: Any, expected: Any) -> None:
    assert converted(payload, {"type": "object", **schema}) == expected


def test_schema_that_contains_itself_has_bytes_at_every_level() -> None:
    tree = {
        "type": "object",
        "properties": {"data": ENCODED, "inner": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}},
    }
    payload = {"data": "AQ==", "inner": [{"data": "Ag==", "inner": [{"data": "Aw=="}]}]}

    found = converted(payload, {"$ref": "#/components/schemas/Tree"}, {"Tree": tree})

    assert found == {"data": b"\x01", "inner": [{"data": b"\x02", "inner": [{"data": b"\x03"}]}]}


@pytest.mark.parametrize("dialect", ["draft-07", "2020-12"])
def test_declared_base64_is_checked(dialect: Any) -> None:
    fields = {"data": ENCODED, "const": ENCODED}
    validator = compiled_schema(dialect, {"type": "object", "properties": fields})

    assert validator.is_valid({"data": "AQID", "const": ""})
    assert not validator.is_valid({"data": "AQI"})
    assert not validator.is_valid({"data": "no base64!"})
    assert not validator.is_valid({"const": "no base64!"})


def test_bytes_of_a_python_class_are_declared_as_base64() -> None:
    class Shown(Event):
        data: Base64Bytes
        type_: ClassVar[str] = ""

    assert payload_schema(Shown)["properties"]["data"] == ENCODED


def test_bytes_that_become_a_text_or_the_reverse_need_a_new_version() -> None:
    encoded, text = (
        read_fragment(document({"type": "object", "properties": {"data": one}}))
        for one in (ENCODED, {"type": "string"})
    )

    assert compare(encoded, text).breaks
    assert compare(text, encoded).breaks
    assert not compare(encoded, encoded).breaks

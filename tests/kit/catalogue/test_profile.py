"""Fragments are read from AsyncAPI documents, as people write them."""

from typing import Any

import pytest
import yaml

from beaconfire_kit.catalogue import builtin, schemas
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import Conflation, InvalidFragment, RootKind
from beaconfire_kit.catalogue.profile import read_accepted, read_fragment
from tests.kit.catalogue.logistics import logistics

# The Streetlights example of the AsyncAPI specification, with our addresses and a name for the fragment.
STREETLIGHTS = """\
asyncapi: 3.0.0
info:
  title: Streetlights Kafka API
  version: 1.0.0
  description: |-
    The Smartylighting Streetlights API allows you to remotely manage the city lights.
  license: {name: Apache 2.0, url: 'https://www.apache.org/licenses/LICENSE-2.0'}
x-beaconfire: {fragment: streetlights, roots: {smartylighting: null}}
servers:
  scram-connections: {host: 'test.mykafkacluster.org:18092', protocol: kafka-secure}
defaultContentType: application/json
channels:
  lightingMeasured:
    address: smartylighting.{cityId}.streetlight.{streetlightId}.measured
    messages:
      lightMeasured: {$ref: '#/components/messages/lightMeasured'}
    description: The topic on which measured values may be produced and consumed.
    parameters:
      streetlightId: {$ref: '#/components/parameters/streetlightId'}
  lightTurnOn:
    address: smartylighting.{cityId}.streetlight.{streetlightId}.turn
    messages:
      turnOn: {$ref: '#/components/messages/turnOnOff'}
  lightDim: {$ref: '#/components/channels/lightDim'}
operations:
  receiveLightMeasurement:
    action: receive
    channel: {$ref: '#/channels/lightingMeasured'}
    traits: [{$ref: '#/components/operationTraits/kafka'}]
components:
  channels:
    lightDim:
      address: smartylighting.{cityId}.streetlight.{streetlightId}.dim
      messages:
        dim_light: {$ref: '#/components/messages/dimLight'}
  messages:
    lightMeasured:
      name: lightMeasured
      title: Light measured
      summary: Inform about environmental lighting conditions of a particular streetlight.
      contentType: application/json
      traits: [{$ref: '#/components/messageTraits/commonHeaders'}]
      payload: {$ref: '#/components/schemas/lightMeasuredPayload'}
    turnOnOff:
      name: turnOnOff
      payload: {$ref: '#/components/schemas/turnOnOffPayload'}
    dimLight:
      payload: {$ref: '#/components/schemas/dimLightPayload'}
  schemas:
    lightMeasuredPayload:
      type: object
      properties:
        lumens: {type: integer, minimum: 0, description: Light intensity measured in lumens.}
        sentAt: {$ref: '#/components/schemas/sentAt'}
    turnOnOffPayload:
      type: object
      properties:
        command: {type: string, enum: ['on', 'off']}
        sentAt: {$ref: '#/components/schemas/sentAt'}
    dimLightPayload:
      type: object
      properties:
        percentage: {type: integer, minimum: 0, maximum: 100}
    sentAt: {type: string, format: date-time, description: Date and time when the message was sent.}
  parameters:
    streetlightId: {description: The ID of the streetlight., location: $message.payload#/lamp/id}
  messageTraits:
    commonHeaders: {headers: {type: object}}
  operationTraits:
    kafka: {bindings: {kafka: {clientId: {type: string}}}}
"""


def test_fragment_written_by_hand_has_its_types_and_roots() -> None:
    fragment = read_fragment(logistics())

    assert (fragment.name, fragment.title) == ("logistics", "Logistics")
    assert fragment.roots == {"depot": RootKind("depot", members=True, presence=True)}
    assert list(fragment.types) == [("parcel.moved", 2), ("parcel.lost", 1), ("courier.position", 1)]
    assert not fragment.warnings


def test_parameter_is_the_field_of_its_name_unless_its_location_names_another() -> None:
    moved = read_fragment(logistics()).types["parcel.moved", 2]

    assert moved.subject == "depot.{depotId}.parcel.{parcelId}"
    assert moved.parameters == {"depotId": ("depotId",), "parcelId": ("parcel", "id")}


def test_message_says_version_ephemeral_and_conflation() -> None:
    position = read_fragment(logistics()).types["courier.position", 1]

    assert position.ephemeral
    assert position.conflation == Conflation("/courierId", 200)
    assert read_fragment(logistics()).types["parcel.moved", 2].description == "A parcel was scanned."


def test_schema_is_complete_in_itself() -> None:
    lost = read_fragment(logistics()).types["parcel.lost", 1]

    assert lost.schema["properties"]["parcel"] == {"$ref": "#/definitions/Parcel"}
    assert list(lost.schema["definitions"]) == ["Parcel"]
    assert schemas.compile(lost).is_valid({"reason": "stolen", "parcel": {"weightKg": 1.5}, "unknown": 1})
    assert not schemas.compile(lost).is_valid({"reason": "stolen", "parcel": {"weightKg": 0}})


def test_schema_format_chooses_the_dialect() -> None:
    moved = read_fragment(logistics()).types["parcel.moved", 2]

    assert moved.dialect == "2020-12"
    assert schemas.compile(moved).is_valid({"to": "Ulm", "route": ["a"]})
    assert not schemas.compile(moved).is_valid({"to": "Ulm", "route": [1]})


def test_official_example_of_asyncapi_is_read_with_warnings_for_what_is_ignored() -> None:
    fragment = read_fragment(yaml.safe_load(STREETLIGHTS))

    assert {(name, event.subject.rpartition(".")[2]) for (name, _), event in fragment.types.items()} == {
        ("lightMeasured", "measured"),
        ("turnOnOff", "turn"),
        ("dim_light", "dim"),
    }
    measured = fragment.types["lightMeasured", 1]
    assert measured.parameters == {"cityId": ("cityId",), "streetlightId": ("lamp", "id")}
    assert [(warning.pointer, warning.message) for warning in fragment.warnings] == [
        ("/servers", "`servers` is ignored."),
        ("/operations", "`operations` is ignored."),
        ("/components/messages/lightMeasured/traits", "`traits` is ignored."),
    ]


def test_event_of_the_official_example_is_checked() -> None:
    catalogue = Catalogue.of(1, {"streetlights": read_fragment(yaml.safe_load(STREETLIGHTS))})
    body = (
        b'{"type": "lightMeasured", "version": 1, "payload": {"lumens": 3, "lamp": {"id": "l1"}}, '
        b'"metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "api"}}'
    )

    checked = catalogue.check("smartylighting.c1.streetlight.l1.measured", body)

    assert checked.payload["lumens"] == 3


@pytest.mark.parametrize("name", builtin.documents())
def test_builtin_document_is_read_as_what_it_was_made_from(name: str) -> None:
    fragment = builtin.fragments()[name]

    again = read_fragment(fragment.document)

    assert again.types == fragment.types
    assert again.roots == fragment.roots


def edited(**payload: Any) -> Any:
    return read_fragment(
        logistics(lambda document: document["channels"]["parcel"]["messages"]["lost"].update(payload=payload))
    ).types["parcel.lost", 1]


def test_tree_may_contain_itself() -> None:
    fragment = read_fragment(
        logistics(
            lambda document: document["components"]["schemas"]["Parcel"]["properties"].update(
                inside={"type": "array", "items": {"$ref": "#/components/schemas/Parcel"}}
            )
        )
    )
    lost = schemas.compile(fragment.types["parcel.lost", 1])

    assert lost.is_valid({"reason": "stolen", "parcel": {"inside": [{"inside": [{"weightKg": 1}]}]}})
    assert not lost.is_valid({"reason": "stolen", "parcel": {"inside": [{"inside": [{"weightKg": 0}]}]}})


def test_fields_that_look_like_keywords_are_fields() -> None:
    names = ["$ref", "enum", "$id", "definitions", "nullable", "items", "type"]
    schema = edited(type="object", properties={name: {"type": "string"} for name in names}).schema

    assert list(schema["properties"]) == names


def test_data_that_looks_like_references_is_data() -> None:
    data = {"$ref": "https://example.com"}
    schema = edited(type="object", properties={"a": {"const": data, "default": data, "examples": [data]}}).schema

    assert schema["properties"]["a"] == {"const": data, "default": data, "examples": [data]}


def test_texts_and_extensions_may_stand_beside_a_reference() -> None:
    document = logistics(
        lambda document: document["channels"]["parcel"]["messages"]["lost"]["payload"]["properties"]["parcel"].update(
            {"description": "The parcel.", "x-unit": "kg"}
        )
    )

    assert read_fragment(document).warnings == ()


def test_warnings_name_what_is_not_checked() -> None:
    fragment = read_fragment(
        logistics(
            lambda document: document["channels"]["parcel"]["messages"]["lost"]["payload"].update(
                requried=["a"], additionalProperties=False, properties={"a": {"type": "string", "format": "iban"}}
            )
        )
    )
    place = "/channels/parcel/messages/lost/payload"

    assert [(warning.pointer, warning.message) for warning in fragment.warnings] == [
        (f"{place}/requried", "`requried` is not a keyword of draft-07, and is ignored."),
        (f"{place}/properties/a/format", "The format 'iban' is unknown, and is not checked."),
        (
            place,
            "`additionalProperties: false` refuses events whose publisher already sends a newer field. "
            "Leave it out, unless that is what you want.",
        ),
    ]


@pytest.mark.parametrize("name", ["parcelMoved", "Parcel-Moved", "com.example.parcel.moved", "parcel:moved", "x_1.2"])
def test_type_has_words_of_any_style(name: str) -> None:
    document = logistics(lambda document: document["channels"]["parcel"]["messages"]["lost"].update(name=name))

    assert (name, 1) in read_fragment(document).types


def test_parameter_may_have_a_dash_and_an_id_may_be_a_number() -> None:
    document = logistics(
        lambda document: document["channels"]["courier"].update(address="depot.{depot-id}.courier.{courierId}.position")
    )
    catalogue = Catalogue.of(1, {"logistics": read_fragment(document)})
    body = (
        b'{"type": "courier.position", "version": 1, '
        b'"payload": {"lat": 1, "lon": 2, "depot-id": 7, "courierId": "c1"}, '
        b'"metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "api"}}'
    )

    assert catalogue.check("ephemeral.depot.7.courier.c1.position", body).payload["depot-id"] == 7


def test_document_of_the_catalogue_is_read_as_when_it_was_pushed() -> None:
    for document in (logistics(), yaml.safe_load(STREETLIGHTS)):
        assert read_accepted(document) == read_fragment(document)


def test_document_that_wider_bounds_accepted_is_still_read() -> None:
    """A gateway that cannot read the catalogue is not ready, so later releases must not refuse what is in it."""
    document = logistics(
        lambda document: document["components"]["schemas"]["Parcel"]["properties"].update(
            code={"type": "string", "pattern": "[01]*1[01]{200}x"}
        )
    )
    with pytest.raises(InvalidFragment):
        read_fragment(document)

    lost = read_accepted(document).types["parcel.lost", 1]

    assert not schemas.compile(lost).is_valid({"reason": "stolen", "parcel": {"code": "1"}})

"""The AsyncAPI document of a whole catalogue is valid, and other tools can check messages with it."""

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from beaconfire_kit import broker
from beaconfire_kit.catalogue import asyncapi as module
from beaconfire_kit.catalogue.asyncapi import address, asyncapi, rooms
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.references import references, resolve
from beaconfire_kit.event import events
from tests.kit.catalogue.specification import SPECIFICATION
from tests.tools.derived.catalogues import builtin_catalogue, hostile_catalogue, logistics_catalogue

CATALOGUES = [builtin_catalogue, logistics_catalogue, hostile_catalogue]


def document_of(catalogue: Catalogue) -> dict[str, Any]:
    types = [event for versions in catalogue.types.values() for event in versions.values()]
    return asyncapi(types, version=str(catalogue.revision))


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_document_of_a_catalogue_is_valid_and_has_every_version_of_every_type(
    catalogue: Callable[[], Catalogue],
) -> None:
    merged = catalogue()
    document = document_of(merged)

    jsonschema.validate(document, SPECIFICATION)

    carried = [name for channel in document["channels"].values() for name in channel["messages"]]
    expected = [f"{name}.v{version}" for name, versions in merged.types.items() for version in versions]
    assert sorted(carried) == sorted(document["components"]["messages"]) == sorted(expected)


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_every_reference_of_the_document_leads_somewhere(catalogue: Callable[[], Catalogue]) -> None:
    document = document_of(catalogue())

    for reference in references(document):
        assert resolve(document, reference) is not None


@pytest.mark.parametrize("catalogue", [builtin_catalogue, logistics_catalogue])
def test_every_message_has_an_example_that_its_schema_accepts(catalogue: Callable[[], Catalogue]) -> None:
    document = document_of(catalogue())

    for message in document["components"]["messages"].values():
        [example] = message["examples"]
        jsonschema.validate(example["payload"], {**message["payload"], "components": document["components"]})


def test_message_without_a_required_field_is_refused_by_its_schema() -> None:
    document = document_of(logistics_catalogue())
    message = document["components"]["messages"]["parcel.moved.v1"]
    [example] = message["examples"]
    del example["payload"]["payload"]["status"]

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example["payload"], {**message["payload"], "components": document["components"]})


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_channels_are_the_events_subjects_with_a_parameter_for_each_id(catalogue: Callable[[], Catalogue]) -> None:
    merged = catalogue()
    document = document_of(merged)
    addresses = [channel["address"] for channel in document["channels"].values()]

    assert len(addresses) == len(set(addresses))
    for channel in document["channels"].values():
        for name in channel["messages"]:
            type_, _, version = name.rpartition(".v")
            assert channel["address"] == address(merged.types[type_][int(version)])
        assert set(re.findall(r"\{([^{}]+)\}", channel["address"])) == set(channel.get("parameters", {}))


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("settlement_updated", ["campaign:{campaignId}", "settlement:{settlementId}"]),
        ("world_time_changed", ["campaign:{campaignId}"]),
        ("member_changed", ["{rootKind}:{rootId}", "member:{userId}"]),
        ("user.typing", ["workspace:{workspaceId}", "{targetKind}:{targetId}"]),
    ],
)
def test_rooms_are_one_for_each_pair_of_the_subject_and_none_for_an_aspect(type_: str, expected: list[str]) -> None:
    assert rooms(builtin_catalogue().types[type_][events()[type_].version]) == expected


def test_document_says_what_the_broker_does() -> None:
    described = json.dumps(document_of(builtin_catalogue()))

    assert module.EPHEMERAL_PREFIX == broker.EPHEMERAL_PREFIX
    assert f"`{broker.LIVE_PREFIX}<subject>`" in described
    assert f"within {broker.DUPLICATE_WINDOW_S // 60} minutes" in described

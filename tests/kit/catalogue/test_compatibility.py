"""A new version of a fragment is compared with the one that is there."""

from collections.abc import Callable
from typing import Any

import pytest

from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.compatibility import Changes, compare
from beaconfire_kit.catalogue.profile import read_fragment
from tests.kit.catalogue.logistics import logistics

Edit = Callable[[Any], object]


def lost(document: Any) -> Any:
    return document["channels"]["parcel"]["messages"]["lost"]


def position(document: Any) -> Any:
    return document["channels"]["courier"]["messages"]["courier.position"]


def changes(*edits: Edit) -> Changes:
    document = logistics()
    for edit in edits:
        edit(document)
    return compare(read_fragment(logistics()), read_fragment(document))


def with_version(number: int) -> Edit:
    def edit(document: Any) -> None:
        newer = {**lost(document), "x-beaconfire": {"version": number}}
        document["channels"]["parcel"]["messages"][f"lost{number}"] = newer

    return edit


def test_first_fragment_of_a_name_adds_all_of_it() -> None:
    found = compare(None, read_fragment(logistics()))

    assert found.added == (
        "`parcel.moved` version 2 is new.",
        "`parcel.lost` version 1 is new.",
        "`courier.position` version 1 is new.",
        "The root `depot` is new.",
    )
    assert not found.breaks


def test_same_fragment_changes_nothing() -> None:
    assert not changes()


def test_each_builtin_fragment_is_compatible_with_itself() -> None:
    for fragment in builtin.fragments().values():
        assert not compare(fragment, fragment)


def test_version_beside_the_old_one_is_added() -> None:
    assert changes(with_version(2)) == Changes(added=("`parcel.lost` gets version 2, beside those that it has.",))


def test_types_and_fragments_that_go_are_listed_apart() -> None:
    whole = compare(read_fragment(logistics()), None)

    assert changes(lambda document: document["channels"].pop("courier")).removed == (
        "`courier.position` version 1 is removed.",
    )
    assert len(whole.removed) == 4
    assert not whole.breaks


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: lost(document).update(description="It is gone."),
        lambda document: lost(document)["payload"]["properties"].update(note={"type": "string"}),
        lambda document: lost(document)["payload"]["properties"]["reason"]["enum"].append("burnt"),
        lambda document: document["components"]["schemas"]["Parcel"]["properties"].update(colour={"type": "string"}),
        lambda document: position(document)["x-beaconfire"].pop("conflate"),
        lambda document: document["info"].update(title="Parcels"),
    ],
    ids=["text", "optional field", "enum", "field of a shared schema", "conflation", "title"],
)
def test_compatible_change_needs_no_version(edit: Edit) -> None:
    found = changes(edit)

    assert found == Changes(changed=found.changed)
    assert found.changed


BREAKING: dict[str, tuple[Edit, str, str]] = {
    "subject": (
        lambda document: document["channels"]["courier"].update(address="depot.{depotId}.rider.{courierId}.position"),
        "/channels/courier/address",
        "`courier.position` version 1: its subject was depot.{depotId}.courier.{courierId}.position and would be "
        "depot.{depotId}.rider.{courierId}.position, so events on the old one become invalid. "
        "Leave version 1 as it was, and declare version 2 beside it.",
    ),
    "location": (
        lambda document: document["channels"]["courier"].update(
            parameters={"courierId": {"location": "$message.payload#/id"}}
        ),
        "/channels/courier/messages/courier.position",
        "the fields that repeat the subject's ids change",
    ),
    "ephemeral": (
        lambda document: position(document)["x-beaconfire"].update(ephemeral=False),
        "/channels/courier/messages/courier.position/x-beaconfire/ephemeral",
        "its events were not stored and would be stored",
    ),
    "conflation": (
        lambda document: lost(document).update({"x-beaconfire": {"conflate": {"key": "/reason", "windowMs": 5}}}),
        "/channels/parcel/messages/lost/x-beaconfire/conflate",
        "clients would get only the latest event for each /reason",
    ),
    "enum": (
        lambda document: lost(document)["payload"]["properties"]["reason"].update(enum=["stolen"]),
        "/channels/parcel/messages/lost/payload/properties/reason/enum",
        'the value `"misplaced"` would not be valid any more.',
    ),
    "required": (
        lambda document: lost(document)["payload"]["required"].append("depotId"),
        "/channels/parcel/messages/lost/payload/required",
        "the field `depotId` would be required",
    ),
    "closed": (
        lambda document: lost(document)["payload"].update(additionalProperties=False),
        "/channels/parcel/messages/lost/payload/additionalProperties",
        "fields that are not declared could have any value",
    ),
    "dialect": (
        lambda document: lost(document).update(
            payload={"schemaFormat": "application/schema+json;version=2020-12", "schema": lost(document)["payload"]}
        ),
        "/channels/parcel/messages/lost/payload",
        "its schema was draft-07 and would be 2020-12",
    ),
    "field in a schema format": (
        lambda document: document["components"]["messages"]["ParcelMoved"]["payload"]["schema"]["properties"][
            "to"
        ].update(maxLength=39),
        "/components/messages/ParcelMoved/payload/schema/properties/to/maxLength",
        "longer texts were valid than maxLength 39 allows.",
    ),
    "root": (
        lambda document: (
            document["x-beaconfire"]["roots"].pop("depot"),
            document["x-beaconfire"]["roots"].update(hub={}),
        ),
        "/x-beaconfire/roots",
        "The root `depot` is missing. Its members and rooms would be lost.",
    ),
    "presence": (
        lambda document: document["x-beaconfire"]["roots"]["depot"].update(presence=False),
        "/x-beaconfire/roots/depot/presence",
        "`presence` of the root `depot` was true, and clients rely on it.",
    ),
}


@pytest.mark.parametrize("case", BREAKING)
def test_breaking_change_names_its_place_and_what_to_do(case: str) -> None:
    edit, place, message = BREAKING[case]

    found = changes(edit)

    assert [problem.pointer for problem in found.breaks] == [place]
    assert message in found.breaks[0].message
    assert found.breaks[0].fragment == "logistics"


def test_break_in_a_shared_schema_is_named_where_it_stands_for_each_type() -> None:
    found = changes(lambda document: document["components"]["schemas"]["Parcel"]["properties"].pop("weightKg"))

    assert [problem.pointer for problem in found.breaks] == ["/components/schemas/Parcel/properties"] * 2

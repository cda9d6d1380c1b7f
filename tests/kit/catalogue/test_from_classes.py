"""A fragment is made from Python event classes, and says what they say."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import Field

from beaconfire_kit import event as event_module
from beaconfire_kit.catalogue import builtin, schemas
from beaconfire_kit.catalogue.fragment import Conflation, EventType, RootKind
from beaconfire_kit.catalogue.from_classes import document_of
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.event import Event, Id, OpenEvent, event_classes, events


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Remove a test's declarations after it."""
    known = dict(event_module._registry)
    yield
    event_module._registry.clear()
    event_module._registry.update(known)


def fragment_of(*classes: type[Event]) -> dict[tuple[str, int], EventType]:
    document = document_of(classes, name="logistics", title="Logistics", roots=[RootKind("depot")])
    fragment = read_fragment(document)
    assert fragment.warnings == ()
    return dict(fragment.types)


class Node(Event):
    label: str
    children: "tuple[Node, ...]" = ()


def test_field_with_another_name_on_the_wire_is_the_location_of_its_parameter() -> None:
    class ParcelScanned(Event):
        """A parcel was scanned."""

        type = "parcel.scanned"
        subject = "depot.{depot_id}.parcel.{parcel_id}"
        depot_id: Id
        parcel_id: Id = Field(alias="id")

    found = fragment_of(ParcelScanned)["parcel.scanned", 1]

    assert found.subject == "depot.{depotId}.parcel.{parcelId}"
    assert found.parameters == {"depotId": ("depotId",), "parcelId": ("id",)}
    assert found.description == "A parcel was scanned."
    assert set(found.schema["properties"]) == {"depotId", "id"}


def test_id_that_the_subject_has_may_be_left_out_and_unknown_fields_pass() -> None:
    class ParcelNoted(OpenEvent):
        type = "parcel.noted"
        subject = "depot.{depot_id}"
        depot_id: Id | None = None
        text: str

    found = schemas.compile(fragment_of(ParcelNoted)["parcel.noted", 1])

    assert found.is_valid({"text": "a", "more": [1]})
    assert not found.is_valid({"depotId": "d1"})


def test_versions_of_a_type_are_classes_beside_each_other() -> None:
    class Moved(Event):
        type = "parcel.moved_on"
        subject = "depot.{depot_id}"
        depot_id: Id

    class MovedAgain(Event):
        type = "parcel.moved_on"
        version = 2
        subject = "depot.{depot_id}"
        depot_id: Id
        to: str

    found = fragment_of(Moved, MovedAgain)

    assert found.keys() == {("parcel.moved_on", 1), ("parcel.moved_on", 2)}
    assert events()["parcel.moved_on"] is MovedAgain
    assert {Moved, MovedAgain} <= set(event_classes())
    assert Moved(depot_id="d1").full_subject() == MovedAgain(depot_id="d2", to="a").full_subject()[:-1] + "1"


def test_ephemeral_and_conflated_events_say_so() -> None:
    class CourierMoved(Event):
        type = "courierMoved"
        subject = "depot.{depot_id}.courier.{courier_id}.position"
        ephemeral = True
        conflate = ("courier_id", 200)
        depot_id: Id
        courier_id: Id

    found = fragment_of(CourierMoved)["courierMoved", 1]

    assert found.ephemeral
    assert found.conflation == Conflation("/courierId", 200)


def test_model_that_contains_itself_is_a_definition() -> None:
    class TreeGrown(Event):
        type = "tree.grown"
        subject = "depot.{depot_id}"
        depot_id: Id
        root: Node

    class TreeCut(TreeGrown):
        type = "tree.cut"

    found = fragment_of(TreeGrown, TreeCut)

    for name in ("tree.grown", "tree.cut"):
        check = schemas.compile(found[name, 1])
        assert check.is_valid({"depotId": "d1", "root": {"label": "a", "children": [{"label": "b"}]}})
        assert not check.is_valid({"depotId": "d1", "root": {"label": "a", "children": [{"label": 1}]}})


def test_tuple_of_different_values_is_checked_by_place() -> None:
    class Measured(Event):
        type = "measured"
        subject = "depot.{depot_id}"
        depot_id: Id
        sample: tuple[str, int]

    found = fragment_of(Measured)["measured", 1]

    assert found.dialect == "2020-12"
    assert schemas.compile(found).is_valid({"depotId": "d1", "sample": ["a", 1]})
    assert not schemas.compile(found).is_valid({"depotId": "d1", "sample": [1, "a"]})


def test_events_on_one_subject_share_a_channel_only_if_their_ids_are_in_the_same_fields() -> None:
    class First(Event):
        type = "first"
        subject = "depot.{depot_id}"
        depot_id: Id

    class Second(Event):
        type = "second"
        subject = "depot.{depot_id}"
        depot_id: Id = Field(alias="id")

    class Third(First):
        type = "third"

    channels: dict[str, Any] = document_of([First, Second, Third], name="a", title="A")["channels"]

    assert {key: list(channel["messages"]) for key, channel in channels.items()} == {
        "depot": ["first", "third"],
        "depot_2": ["second"],
    }


def test_class_of_another_package_is_in_no_builtin_fragment() -> None:
    class Foreign(Event):
        type = "foreign"
        subject = "campaign.{campaign_id}"
        campaign_id: Id
        kind: Literal["a"] = "a"

    assert Foreign in event_classes()
    assert "foreign" not in str(builtin.documents.__wrapped__())

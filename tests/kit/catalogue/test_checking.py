"""Events are checked against one revision of the catalogue."""

import gc
import json
import tracemalloc
import weakref
from typing import Any

import pytest

from beaconfire_kit.catalogue.checking import MAX_DEPTH, Checker
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.roles import Role

SUBJECT = "depot.d1.parcel.p1"
ID = {"type": "string"}
MOVED: dict[str, Any] = {"type": "object", "properties": {"depotId": ID, "parcelId": ID, "note": {"type": "string"}}}
METADATA = {"timestamp": "2026-11-21T10:00:00Z", "source": "depots"}


def event_type(name: str = "parcel.moved", version: int = 1, **changes: Any) -> EventType:
    fields: dict[str, Any] = {
        "subject": "depot.{depotId}.parcel.{parcelId}",
        "parameters": {"depotId": ("depotId",), "parcelId": ("parcelId",)},
        "schema": MOVED,
    }
    return EventType(name, version, **{**fields, **changes})


def checker(*types: EventType) -> Checker:
    by_name: dict[str, dict[int, EventType]] = {}
    for one in types or (event_type(),):
        by_name.setdefault(one.name, {})[one.version] = one
    return Checker(by_name)


def event(payload: Any = None, **fields: Any) -> bytes:
    whole = {"type": "parcel.moved", "version": 1, "payload": payload or {}, "metadata": METADATA, **fields}
    return json.dumps(whole, separators=(",", ":")).encode()


def refusal(body: bytes, subject: str = SUBJECT, of: Checker | None = None) -> tuple[str, str]:
    with pytest.raises(InvalidEvent) as refused:
        (of or checker()).check(subject, body)
    return refused.value.reason, refused.value.detail


def test_event_is_returned_with_its_type_and_its_fields() -> None:
    checked = checker().check(SUBJECT, event({"note": "x"}, id="e1", metadata={**METADATA, "audience": ["owner"]}))

    assert (checked.type, checked.version, checked.id) == ("parcel.moved", 1, "e1")
    assert (checked.payload, checked.metadata["source"]) == ({"note": "x"}, "depots")
    assert checked.audience == frozenset({Role.OWNER})


def test_event_without_id_and_audience_is_for_every_role() -> None:
    checked = checker().check(SUBJECT, event())

    assert (checked.id, checked.audience) == ("", None)


@pytest.mark.parametrize("payload", [{}, {"depotId": "d1"}, {"depotId": "d1", "parcelId": "p1"}])
def test_ids_of_the_subject_may_be_missing_in_the_payload(payload: dict[str, str]) -> None:
    assert checker().check(SUBJECT, event(payload)).payload == payload


@pytest.mark.parametrize("payload", [{"depotId": "d2"}, {"depotId": "d1", "parcelId": "p2"}])
def test_id_in_the_payload_must_be_the_one_in_the_subject(payload: dict[str, str]) -> None:
    reason, detail = refusal(event(payload))

    assert (reason, detail) == (
        "wrong_subject",
        f"payload.{list(payload)[-1]} is not the id in the subject: depot.{{depotId}}.parcel.{{parcelId}}",
    )


def test_id_deep_inside_the_payload_is_compared_too() -> None:
    nested = checker(event_type(parameters={"depotId": ("depot", "id"), "parcelId": ("parcelId",)}, schema={}))

    assert nested.check(SUBJECT, event({"depot": {"id": "d1"}})).type == "parcel.moved"
    assert nested.check(SUBJECT, event({"depot": "d2"})).type == "parcel.moved"
    assert refusal(event({"depot": {"id": "d2"}}), of=nested)[0] == "wrong_subject"


@pytest.mark.parametrize(
    "subject",
    [
        "depot.d1",
        "depot.d1.parcel.p1.note",
        "depot.d1.box.p1",
        "shop.d1.parcel.p1",
        "depot.*.parcel.p1",
        "depot..parcel.p1",
    ],
)
def test_subject_must_match_the_template(subject: str) -> None:
    assert refusal(event(), subject) == (
        "wrong_subject",
        "the subjects of parcel.moved are depot.{depotId}.parcel.{parcelId}",
    )


def test_ephemeral_event_belongs_below_ephemeral() -> None:
    typing = checker(event_type(ephemeral=True))

    assert typing.check(f"ephemeral.{SUBJECT}", event()).definition.ephemeral
    assert refusal(event(), of=typing)[0] == "wrong_subject"


def test_each_version_has_its_own_schema() -> None:
    both = checker(event_type(), event_type(version=2, schema={**MOVED, "required": ["note"]}))

    assert both.check(SUBJECT, event()).version == 1
    assert both.check(SUBJECT, event({"note": "x"}, version=2)).version == 2
    assert refusal(event(version=2), of=both) == ("invalid", 'payload: "note" is a required property')
    assert refusal(event(version=3), of=both) == (
        "unknown_version",
        "version: the catalogue has parcel.moved in version 1, 2",
    )


@pytest.mark.parametrize("version", [b"true", b"1.0", b"1e0", b"null", b'"1"', b"[]", b"{}"])
def test_version_is_an_integer(version: bytes) -> None:
    assert refusal(event().replace(b'"version":1', b'"version":' + version))[0] == "unknown_version"


@pytest.mark.parametrize("name", ["parcel.lost", 5, None, [], {}])
def test_type_must_be_in_the_catalogue(name: Any) -> None:
    assert refusal(event(type=name))[0] == "unknown_type"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"version"', '"version":1,"version"'),
        ('"version"', '"v" :1,"v":1,"version"'),
        ('"version"', '"versio\\u006e":1,"version"'),
        ('"payload":{', '"payload":{"note":"a","note":"b"'),
        ('"payload":{', '"payload":{"x":[{"y":1,"y":2}]'),
        ('"payload":{', '"payload":{":":1,":":2'),
        ('"payload":{', '"payload":{"x":1,"x":2,"note":"a\\u003a"'),
        ("10:00:00Z", '10\\u003a00:00Z","source":"depots'),
        ('"payload":{', '"payload":{"note":"\\":","note":"\\":"'),
    ],
)
def test_key_that_is_there_twice_is_refused(old: str, new: str) -> None:
    body = event().decode()
    assert old in body

    assert refusal(body.replace(old, new, 1).encode())[0] == "not_json"


@pytest.mark.parametrize("write", [json.dumps, lambda whole: json.dumps(whole, indent=2)])
@pytest.mark.parametrize("note", ["", ":", '":"', "\\u003a", "a\\", "\n", "ü😀", '{"a":1,"a":2}'])
def test_white_space_and_text_with_colons_are_no_second_key(write: Any, note: str) -> None:
    whole = json.loads(event({"note": note, "x": {note: [note, {"y": note}]}}))

    assert checker().check(SUBJECT, write(whole).encode()).payload["note"] == note


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return event()[:-1] + b',"x":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    assert checker().check(SUBJECT, nested(MAX_DEPTH)).message["x"]
    assert refusal(nested(MAX_DEPTH + 1)) == (
        "not_json",
        "nested too deep: more than 200 objects and arrays inside one another",
    )
    assert refusal(nested(5_000))[0] == "not_json"


def test_details_never_show_values() -> None:
    strict = {
        "type": "object",
        "properties": {"note": {"type": "string", "maxLength": 3}, "kind": {"enum": ["box"]}, "at": {"format": "date"}},
    }
    for payload in ({"note": "SECRET"}, {"kind": "SECRET"}, {"at": "SECRET"}, {"depotId": "SECRET"}):
        _, detail = refusal(event(payload), of=checker(event_type(schema=strict)))
        assert "SECRET" not in detail, detail


def test_body_with_thousands_of_errors_is_refused_for_the_first_one() -> None:
    """A gateway that made an error of each one would stand still for half a second."""
    body = event(id="e1", metadata={**METADATA, "audience": [0] * 20_000})
    checks = checker()
    tracemalloc.start()
    try:
        where = refusal(body, of=checks)[1].partition(":")[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert where == "metadata.audience.0"
    assert peak < 1_000_000, "20,000 errors take 38 MB"


def test_remembered_subjects_are_bounded() -> None:
    both = Checker({"parcel.moved": {1: event_type()}, "parcel.lost": {1: event_type("parcel.lost")}}, max_remembered=3)
    for number in range(10):
        both.check(f"depot.d1.parcel.p{number}", event())
        both.check(f"depot.d1.parcel.p{number}", event(type="parcel.lost"))
        assert sum(len(rule.ids) for versions in both._rules.values() for rule in versions.values()) <= 3


def test_dropped_revision_leaves_no_cycles_behind() -> None:
    """A gateway hides old objects from the garbage collector: cycles among them would stay for good."""

    class Schema(dict[str, Any]):
        """Can be watched."""

    kept = Schema(MOVED)
    watched, checks = weakref.ref(kept), checker(event_type(schema=kept))
    gc.disable()
    try:
        del kept, checks
        assert watched() is None
    finally:
        gc.enable()


def test_event_whose_schema_cannot_be_compiled_is_refused_and_not_lost() -> None:
    """A later version may accept schemas that this one cannot use. A gateway sets such an event aside."""
    later = checker(event_type(schema={"type": "text"}))
    for _ in range(2):
        assert refusal(event(), of=later) == (
            "unknown_version",
            "version: this program cannot compile the schema of parcel.moved version 1",
        )

"""The same bytes are valid or invalid for every reader: live, in memory, in the history, in a worker, over HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES, InvalidEvent
from beaconfire_kit.received import read
from tests.client import open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.publisher.conftest import Api, Heard, publisher_settings, publishing

METADATA = {"timestamp": "2026-11-21T10:00:00Z", "source": "api"}
EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "settlement_updated": (
        "campaign.c1.settlement.s1",
        {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]},
    ),
    "world_time_changed": (
        "campaign.c1.world_time",
        {
            "campaignId": "c1",
            "previousTime": "1000-01-01T08:00:00Z",
            "newTime": "1000-01-01T09:00:00Z",
            "elapsedSeconds": 3600,
        },
    ),
    "state_invalidated": (
        "campaign.c1.state",
        {"scope": "campaign", "campaignId": "c1", "affectedFields": ["income"]},
    ),
}
ACCEPTED, REFUSED, READ_ONLY = "accepted", "refused", "accepted, and over HTTP refused"
REWRITTEN = "refused, and over HTTP written as it should be"


def body(type_: str = "settlement_updated", *, payload: Any = None, metadata: Any = None, **fields: Any) -> bytes:
    """A good event, with these fields of it, of its payload and of its metadata."""
    _, good = EVENTS[type_]
    whole = {
        "type": type_,
        "version": 1,
        "payload": {**good, **(payload or {})},
        "metadata": {**METADATA, **(metadata or {})},
        **fields,
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def of_size(size: int) -> bytes:
    """A good event of so many bytes."""
    room = size - len(body(payload={"changedFields": [""]}))
    return body(payload={"changedFields": ["x" * room]})


def put(old: str, new: str, in_: bytes | None = None) -> bytes:
    """A good event with some of its bytes replaced."""
    whole = body() if in_ is None else in_
    assert whole.count(old.encode()) == 1, old
    return whole.replace(old.encode(), new.encode())


def timed(value: Any) -> bytes:
    return body(metadata={"timestamp": value})


WORLD = body("world_time_changed")
CASES: list[tuple[str, str, bytes]] = [
    (ACCEPTED, "good", body()),
    (ACCEPTED, "with an id", body(id="e-1")),
    (ACCEPTED, "world time", WORLD),
    (ACCEPTED, "invalidated", body("state_invalidated")),
    (ACCEPTED, "spread over lines", json.dumps(json.loads(body()), indent=2).encode()),
    (ACCEPTED, "spaces before colons", body().replace(b'":', b'" :')),
    (ACCEPTED, "escaped key", put('"type":', '"\\u0074ype":')),
    (ACCEPTED, "words about NaN", body(payload={"changedFields": ["NaN", "Infinity", 'a":"b']})),
    (ACCEPTED, "colons in a text", body(metadata={"correlationId": "a:b:c"})),
    (ACCEPTED, "time with an offset", timed("2026-11-21T10:00:00+00:00")),
    (ACCEPTED, "time in another zone", timed("2026-11-21T10:00:00.5+05:30")),
    (ACCEPTED, "audience", body(metadata={"audience": ["editor"]})),
    (ACCEPTED, "null where it may be", body(metadata={"audience": None})),
    (READ_ONLY, "unknown key", body(extra=1)),
    (ACCEPTED, "unknown key of the payload", body(payload={"extra": {"a": [1]}})),
    (READ_ONLY, "unknown key of the metadata", body(metadata={"extra": None})),
    (REFUSED, "no JSON", b"no json"),
    (REFUSED, "cut off", body()[:-1]),
    (REFUSED, "two of them", body() + body()),
    (REFUSED, "not UTF-8", body().replace(b"level", b"\xff")),
    (REFUSED, "UTF-16", body().decode().encode("utf-16")),
    (REFUSED, "a byte order mark", b"\xef\xbb\xbf" + body()),
    (REFUSED, "half a surrogate", put('"level"', '"\\ud800"')),
    (REFUSED, "a raw line break", put("level", "le\nvel")),
    (REFUSED, "single quotes", body().replace(b'"', b"'")),
    (REFUSED, "a comma too many", put('"level"]', '"level",]')),
    (REFUSED, "a comment", put('"version":1', '"version":1/* one */')),
    (REFUSED, "deep", put('"version":1', '"extra":' + "[" * 5_000 + "]" * 5_000 + ',"version":1')),
    (REFUSED, "a text", b'"settlement_updated"'),
    (REFUSED, "version true", put('"version":1', '"version":true')),
    (REWRITTEN, "version 1.0", put('"version":1', '"version":1.0')),
    (REWRITTEN, "version 1e0", put('"version":1', '"version":1e0')),
    (REFUSED, "version as a text", put('"version":1', '"version":"1"')),
    (REFUSED, "version 01", put('"version":1', '"version":01')),
    (REFUSED, "version null", body(version=None)),
    (REFUSED, "version list", body(version=[1])),
    (REFUSED, "another version", body(version=2)),
    (REFUSED, "version of 5,000 digits", put('"version":1', '"version":' + "1" * 5_000)),
    (REFUSED, "type twice", put('"version":1', '"type":"settlement_updated","version":1')),
    (REFUSED, "version twice", put('"version":1', '"version":2,"version":1')),
    (REFUSED, "id twice", put('{"type"', '{"id":"a","id":"b","type"')),
    (REFUSED, "payload twice", put('"payload":', '"payload":{},"payload":')),
    (REFUSED, "a key twice with an escape", put('"version":1', '"version":1,"versio\\u006e":1')),
    (REFUSED, "a key twice with spaces", put('"version":1', '"version" : 1,"version" : 1')),
    (REFUSED, "key of the payload twice", put('"settlementId":"s1"', '"settlementId":"s2","settlementId":"s1"')),
    (REFUSED, "key of the metadata twice", put('"source":"api"', '"source":"api","source":"api"')),
    (REFUSED, "twice, and no second time", put(":00:00Z", ":00Z", put('"version":1', '"version":1,"version":1'))),
    (REFUSED, "twice in a world time", put('"elapsedSeconds":3600', '"elapsedSeconds":1,"elapsedSeconds":3600', WORLD)),
    (REFUSED, "unknown key twice", put('"version":1', '"x":1,"x":1,"version":1')),
    (REFUSED, "key twice deep inside", put('"version":1', '"x":[{"y":1,"y":1}],"version":1')),
    (REFUSED, "NaN", put('"version":1', '"x":NaN,"version":1')),
    (REFUSED, "Infinity", put('"version":1', '"x":[Infinity],"version":1')),
    (REFUSED, "-Infinity", put('"version":1', '"x":{"y":-Infinity},"version":1')),
    (REFUSED, "NaN as seconds", put(":3600", ":NaN", WORLD)),
    (ACCEPTED, "seconds 1.0", put(":3600", ":3600.0", WORLD)),
    (REFUSED, "seconds true", put(":3600", ":true", WORLD)),
    (REFUSED, "seconds as a text", put(":3600", ':"3600"', WORLD)),
    (REFUSED, "seconds below zero", put(":3600", ":-1", WORLD)),
    (REFUSED, "world time as a number", put('"1000-01-01T08:00:00Z"', "-30610195200", WORLD)),
    (REFUSED, "world time as digits", put('"1000-01-01T08:00:00Z"', '"1700000000"', WORLD)),
    (REFUSED, "world time without a zone", put("T08:00:00Z", "T08:00:00", WORLD)),
    (REFUSED, "id 5", body(id=5)),
    (REFUSED, "id null in front", body(id=[])),
    (REFUSED, "id empty", body(id="")),
    (REFUSED, "id with a space", body(id="a b")),
    (REFUSED, "id too long", body(id="x" * 129)),
    (REFUSED, "id true", body(id=True)),
    (REFUSED, "campaign 1", body(payload={"campaignId": 1})),
    (REFUSED, "campaign with a star", body(payload={"campaignId": "*"})),
    (REFUSED, "settlement null", body(payload={"settlementId": None})),
    (REFUSED, "operation unknown", body(payload={"operation": "explode"})),
    (REFUSED, "fields as a text", body(payload={"changedFields": "level"})),
    (REFUSED, "fields as an object", body(payload={"changedFields": {"0": "level"}})),
    (REFUSED, "field 1", body(payload={"changedFields": [1]})),
    (REFUSED, "payload list", json.dumps({**json.loads(body()), "payload": []}).encode()),
    (REFUSED, "type unknown", body(type="nonsense")),
    (REFUSED, "type 1", body(type=1)),
    (REFUSED, "no type", put('"type":"settlement_updated",', "")),
    (REFUSED, "time as a number", timed(1_763_719_200)),
    (REFUSED, "time with a fraction", timed(1_763_719_200.5)),
    (REFUSED, "time as digits", timed("1763719200")),
    (REFUSED, "time as digits below zero", timed("-1")),
    (REFUSED, "time true", timed(True)),
    (REFUSED, "time without a zone", timed("2026-11-21T10:00:00")),
    (REFUSED, "time without seconds", timed("2026-11-21T10:00Z")),
    (REFUSED, "a day", timed("2026-11-21")),
    (REFUSED, "no such day", timed("2026-02-30T10:00:00Z")),
    (REFUSED, "source 5", body(metadata={"source": 5})),
    (REFUSED, "user 5", body(metadata={"userId": 5})),
    (REFUSED, "audience as a text", body(metadata={"audience": "owner"})),
    (REFUSED, "audience unknown", body(metadata={"audience": ["king"]})),
    (REFUSED, "one byte too many", of_size(MAX_EVENT_BYTES + 1)),
    (REFUSED, "as large as the broker takes", of_size(66_400)),
]


def subject_of(whole: bytes) -> str:
    for type_, (subject, _) in EVENTS.items():
        if type_.encode() in whole:
            return subject
    return EVENTS["settlement_updated"][0]


def is_read(whole: bytes) -> bool:
    """Return whether a worker finds a valid event in it."""
    try:
        read(subject_of(whole), whole)
    except InvalidEvent:
        return False
    return True


def refused_by(is_taken: Callable[[int], bool]) -> list[str]:
    return [name for number, (_, name, _) in enumerate(CASES) if not is_taken(number)]


@pytest.mark.timeout(120)
async def test_every_reader_has_the_same_verdict(stream: NatsServer, tmp_path: Path) -> None:
    """HTTP differs in two documented ways: it refuses unknown keys around a payload, and stores version `1.0` as 1."""
    assert len(CASES) >= 60
    auth = FakeAuth()
    auth.members = {"editor": {"campaign:c1": "editor"}}
    big = ("x" * 1000,) * 60
    async with (
        auth.running(stream),
        running_gateway(stream, auth) as busy,
        running_gateway(stream, auth) as idle,
        running_gateway(stream, auth, ring_bytes=1_048_576) as forgetful,
        open_socket(busy.url) as live,
    ):
        cursor = (await live.connect(auth.token("editor"), ["campaign:c1"]))["cursor"]
        js = busy.publisher.jetstream()
        offsets = [(await js.publish(subject_of(whole), whole)).seq for _, _, whole in CASES]
        end = [await busy.publish(settlement(f"big{number}", "c1", *big)) for number in range(20)][-1]

        async def heard(url: str) -> set[int]:
            async with open_socket(url) as client:
                await client.connect(auth.token("editor"), ["campaign:c1"], cursor=cursor)
                seen = set()
                while end not in seen:
                    seen.add((await client.next("event"))["offset"])
                return seen

        heard_live = set()
        while end not in heard_live:
            heard_live.add((await live.next("event"))["offset"])
        remembered, from_stream = await heard(idle.url), await heard(forgetful.url)
        settings = publisher_settings(stream, tmp_path, auth.jwks_url)
        async with publishing(settings, Heard()) as publisher:
            await publisher.says("ready")
            editor = Api(publisher.http, publisher.url, auth.token("editor"), "editor")
            statuses = [(await editor.post("/v1/events", whole)).status for _, _, whole in CASES]

    expected = [name for verdict, name, _ in CASES if verdict in (REFUSED, REWRITTEN)]
    assert refused_by(lambda number: offsets[number] in heard_live) == expected
    assert refused_by(lambda number: offsets[number] in remembered) == expected
    assert refused_by(lambda number: offsets[number] in from_stream) == expected
    assert refused_by(lambda number: is_read(CASES[number][2])) == expected
    assert refused_by(lambda number: statuses[number] == 201) == [
        name for verdict, name, _ in CASES if verdict not in (ACCEPTED, REWRITTEN)
    ]
    assert {status for status in statuses if status != 201} <= {400, 413}


@pytest.mark.parametrize(("size", "is_event"), [(MAX_EVENT_BYTES, True), (MAX_EVENT_BYTES + 1, False), (66_400, False)])
def test_event_of_65536_bytes_is_valid_and_one_byte_more_is_not(size: int, is_event: bool) -> None:
    """The broker would take more."""
    whole = of_size(size)

    assert len(whole) == size
    assert is_read(whole) is is_event

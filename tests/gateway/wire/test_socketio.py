"""The dialect of Socket.IO clients: what they emit, and what they are sent."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.limits import LimitReached
from beaconfire_gateway.wire.messages import (
    Ack,
    Connect,
    Error,
    GoAway,
    InvalidMessage,
    Message,
    Ping,
    Position,
    Refresh,
    Refusal,
    Reply,
    Request,
    Restored,
    RoomAnswer,
    RoomLeft,
    Select,
    SetPresence,
    SetTyping,
    Status,
    Subscribe,
    Unsubscribe,
)
from beaconfire_gateway.wire.socketio import NO_ACKNOWLEDGEMENT, SocketIO
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError

NO_SURROGATES = st.characters(exclude_categories=["Cs"])
MAIN, REALTIME = SocketIO(), SocketIO("/realtime")
FORBIDDEN = BeaconfireError(errors.FORBIDDEN, "not a member")
BODY = b'{"id":"e1","type":"t","version":1,"payload":{"n":1.0,"big":123456789012345678901},"metadata":{}}'


def entry(offset: int = 42, type_: str = "settlement_updated") -> Entry:
    return Entry(offset, Route("campaign.c1.state", ()), BODY, 0.0, "e", type_)


@pytest.mark.parametrize(
    ("emitted", "request_"),
    [
        ('["subscribe","campaign:c1"]', Subscribe(7, ("campaign:c1",))),
        ('["subscribe",["campaign:c1","user:u1"]]', Subscribe(7, ("campaign:c1", "user:u1"))),
        ('["subscribe",{"room":"campaign:c1"}]', Subscribe(7, ("campaign:c1",))),
        (
            '["subscribe",{"rooms":["campaign:c1"],"types":["t"],"cursor":"e:1","id":9,"type":"connect"}]',
            Subscribe(7, ("campaign:c1",), ("t",), "e:1"),
        ),
        ('["unsubscribe",["campaign:c1"]]', Unsubscribe(7, ("campaign:c1",))),
        ('["subscribe_campaign","c1"]', Subscribe(7, ("campaign:c1",))),
        ('["subscribe_settlement","s1",{"ignored":true}]', Subscribe(7, ("settlement:s1",))),
        ('["subscribe_structure",5]', Subscribe(7, ("structure:5",))),
        ('["unsubscribe_structure","t1"]', Unsubscribe(7, ("structure:t1",))),
        ('["refresh","token"]', Refresh(7, "token")),
        ('["refresh",{"token":"token"}]', Refresh(7, "token")),
        ('["ping"]', Ping(7)),
        ('["ping",{"remaining":true}]', Ping(7, remaining=True)),
        ('["presence.update",{"status":"away"}]', SetPresence(7, Status.AWAY)),
        ('["presence.update","busy"]', SetPresence(7, Status.BUSY)),
        ('["typing.start",{"chatId":"h1"}]', SetTyping(7, "chat:h1", typing=True)),
        ('["typing.start",{"chatId":"h1","typing":false}]', SetTyping(7, "chat:h1", typing=True)),
        ('["typing.start",5]', SetTyping(7, "chat:5", typing=True)),
        ('["typing.stop",{"chatId":"h1"}]', SetTyping(7, "chat:h1", typing=False)),
        ('["typing.stop",{"room":"workspace:w1"}]', SetTyping(7, "workspace:w1", typing=False)),
        ('["select",{"room":"campaign:c1","items":["a","b"]}]', Select(7, "campaign:c1", ("a", "b"))),
    ],
)
def test_emit_becomes_a_request(emitted: str, request_: Request) -> None:
    """Its id is that of the acknowledgement."""
    assert MAIN.decode(b"27" + emitted.encode()) == request_
    assert REALTIME.decode(b"2/realtime,7" + emitted.encode()) == request_


def test_emit_without_an_acknowledgement_is_not_answered() -> None:
    """Unless it is refused: then an event says why."""
    request = MAIN.decode(b'2["subscribe_campaign","c1"]')

    assert request.id == NO_ACKNOWLEDGEMENT
    assert MAIN.encode(Reply(request.id, request.TYPE)) == b""
    assert MAIN.encode(Refusal(request.id, FORBIDDEN)) == (
        b'2["beaconfire:error",{"code":"forbidden","message":"not a member"}]'
    )


@pytest.mark.parametrize(
    ("emitted", "text"),
    [
        ('["no_such_thing",1]', "there is no event 'no_such_thing'"),
        ("[5]", "there is no event '5'"),
        ('["subscribe"]', "rooms.0: Input should be a valid string"),
        ('["subscribe",{}]', "rooms: Field required"),
        ('["subscribe_campaign"]', "subscribe_campaign takes an id"),
        ('["subscribe_campaign",["c1"]]', "subscribe_campaign takes an id"),
        ('["subscribe_campaign",true]', "subscribe_campaign takes an id"),
        ('["typing.start"]', "typing.start takes a chat or a room"),
        ('["typing.stop",{"chatId":null}]', "typing.stop takes a chat or a room"),
        ('["select","settlement:s1"]', "select takes a room and items"),
        ('["select",{"room":"campaign:c1"}]', "items: Field required"),
        ('["typing.start",{"room":5}]', "room: Input should be a valid string"),
        ('["refresh"]', "token: Input should be a valid string"),
        (json.dumps(["subscribe", ["campaign:c1"] * 101]), "rooms: Tuple should have at most 100 items"),
    ],
)
@pytest.mark.parametrize(("id_", "expected"), [("7", 7), ("", None)])
def test_emit_that_is_not_understood_is_refused_with_its_id(
    emitted: str, text: str, id_: str, expected: int | None
) -> None:
    """The text says what is wrong."""
    with pytest.raises(InvalidMessage, match="^" + text.replace("'", ".")) as caught:
        MAIN.decode(f"2{id_}{emitted}".encode())

    assert caught.value.message_id == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(NO_SURROGATES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(NO_SURROGATES, max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["subscribe", "unsubscribe", "subscribe_campaign", "refresh", "ping", "typing.start", "other"])


@given(
    NAMES, st.lists(JSON | st.fixed_dictionaries({}, optional={"rooms": JSON, "room": JSON, "types": JSON}), max_size=2)
)
def test_any_emit_is_a_request_or_is_refused_with_its_id(name: str, arguments: list[Any]) -> None:
    """No other error comes of it."""
    ids: list[str | int | None] = []
    try:
        ids.append(MAIN.decode(b"27" + json.dumps([name, *arguments]).encode()).id)
    except InvalidMessage as problem:
        ids.append(problem.message_id)

    assert ids == [7]


@given(st.dictionaries(st.sampled_from(["token", "rooms", "types", "cursor", "client", "pid", "more"]), JSON))
def test_any_auth_is_a_request_or_is_refused(auth: dict[str, Any]) -> None:
    """No other error comes of it."""
    with suppress(InvalidMessage):
        assert MAIN.decode_connect(auth).id == NO_ACKNOWLEDGEMENT


def test_auth_becomes_connect() -> None:
    """What else an application puts there is ignored."""
    auth = {"token": "Bearer abc", "rooms": ["campaign:c1"], "cursor": "e:1", "pid": "p", "offset": "o", "more": 1}

    assert MAIN.decode_connect(auth) == Connect(NO_ACKNOWLEDGEMENT, token="abc", rooms=("campaign:c1",), cursor="e:1")
    with pytest.raises(InvalidMessage, match="token: Input should be a valid string"):
        MAIN.decode_connect({"token": 5})


def test_event_has_the_payload_as_it_was_published_and_the_cursor() -> None:
    """Its name is the event's type."""
    assert b"".join(MAIN.event(entry())) == (b'2["settlement_updated",{"n":1.0,"big":123456789012345678901},"e:42"]')
    assert b"".join(REALTIME.event(entry())).startswith(b'2/realtime,["settlement_updated",{')


def test_ephemeral_event_does_not_end_with_a_string() -> None:
    """A client would take it for its offset."""
    assert b"".join(MAIN.event(entry(0))).endswith(b"},null]")


@pytest.mark.parametrize("name", ["connect", "connect_error", "disconnect", "disconnecting"])
def test_event_with_a_reserved_name_has_a_prefix(name: str) -> None:
    """A client that receives it without one closes its connection."""
    assert MAIN.event(entry(type_=name))[0] == f'2["event:{name}",'.encode()


ANSWERS = {"campaign:c1": RoomAnswer(), "campaign:c2": RoomAnswer(error=FORBIDDEN)}


@pytest.mark.parametrize(
    ("message", "packet"),
    [
        (Reply(7, "ping"), '37[{"success":true}]'),
        (
            Reply(7, "subscribe", {"campaign:c1": RoomAnswer()}, "e:1"),
            '2["beaconfire:position","e:1"]\x1e37[{"success":true,"rooms":{"campaign:c1":{"success":true}},"cursor":"e:1"}]',
        ),
        (
            Reply(7, "subscribe", ANSWERS),
            '37[{"success":false,"rooms":{"campaign:c1":{"success":true},"campaign:c2":{"success":false,"error":'
            '{"code":"forbidden","message":"not a member"}}},"error":"campaign:c2: not a member",'
            '"code":"forbidden"}]',
        ),
        (Refusal(7, FORBIDDEN), '37[{"success":false,"error":"not a member","code":"forbidden"}]'),
        (
            Error(7, LimitReached("messages", "slow down", wait_s=0.999)),
            '37[{"success":false,"error":"slow down","code":"too_many","retryAfterMs":1000}]',
        ),
        (Error(None, FORBIDDEN), '2["beaconfire:error",{"code":"forbidden","message":"not a member"}]'),
        (Position("e:9"), '2["beaconfire:position","e:9"]'),
        (RoomLeft("campaign:c1", "removed"), '2["beaconfire:room.left",{"room":"campaign:c1","reason":"removed"}]'),
        (GoAway(1, 2), ""),
    ],
)
def test_message_is_written(message: Message, packet: str) -> None:
    """An answer is an acknowledgement, and anything else is an event of ours."""
    assert MAIN.encode(message).decode() == packet


def test_client_that_is_let_in_is_told_its_cursor_at_once() -> None:
    """Two packets. A client keeps the last string of an event, so it can recover before there is any event."""
    ack = Ack(
        "",
        session_id="s1",
        user_id="u1",
        cursor="e:5",
        heartbeat_s=25,
        limits={"maxRooms": 1},
        degraded=False,
        rooms={},
    )

    connect, event = REALTIME.encode(ack).split(b"\x1e")
    assert connect == b'0/realtime,{"sid":"s1"}'
    name, fields, cursor = json.loads(event.removeprefix(b"2/realtime,"))
    assert (name, cursor) == ("beaconfire:ack", "e:5")
    assert fields == {
        "sessionId": "s1",
        "userId": "u1",
        "cursor": "e:5",
        "heartbeatS": 25,
        "limits": {"maxRooms": 1},
        "degraded": False,
        "rooms": {},
    }


def test_restored_events_do_not_move_the_clients_offset_back() -> None:
    """They end with an object, which names their cursor."""
    packets = MAIN.encode(Restored(7, ("campaign:c1",), (entry(40), entry(41)))).split(b"\x1e")

    assert [last_of(packet) for packet in packets] == [{"restored": "e:40"}, {"restored": "e:41"}]


def last_of(packet: bytes) -> Any:
    return json.loads(packet[1:])[-1]

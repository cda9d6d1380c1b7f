"""What a user has selected, through gateways on a real broker: which sessions are told, and which are not."""

import asyncio
import json
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.presence import selections
from beaconfire_gateway.presence.messages import Selected
from beaconfire_gateway.presence.selections import UsersSelections
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_kit.subjects import RoomKey, parse_pair
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.core import connect
from tests.gateway.events import member, publish_as_auth
from tests.gateway.transports.ways import ROOM, WAYS, Way

CAMPAIGN = RoomKey(parse_pair(ROOM), parse_pair(ROOM))
ITEMS = ["settlement:s1"]


def told(*items: str, room: str = ROOM) -> dict[str, Any]:
    """The message of the native protocol."""
    return {"type": "selection", "room": room, "items": list(items)}


def selected(client: SocketClient) -> list[dict[str, Any]]:
    """What a client was told so far."""
    return [one for one in client.frames if one["type"] == "selection"]


@pytest.fixture(name="pair")
def _pair(pair: tuple[Gateway, Gateway], auth: FakeAuth) -> tuple[Gateway, Gateway]:
    """The editor is also a member of another campaign."""
    auth.members["editor"]["campaign:c2"] = "viewer"
    return pair


async def test_other_views_of_the_user_are_told_on_every_gateway_and_nobody_else(
    pair: tuple[Gateway, Gateway],
) -> None:
    first, second = pair
    token = first.auth.token
    async with (
        open_socket(first.url) as sender,
        open_socket(first.url) as near,
        open_socket(second.url) as far,
        open_socket(second.url) as other_room,
        open_socket(first.url) as other_user,
    ):
        for client, user, room in (
            (sender, "editor", ROOM),
            (near, "editor", ROOM),
            (far, "editor", ROOM),
            (other_room, "editor", "campaign:c2"),
            (other_user, "owner", ROOM),
        ):
            await client.connect(token(user), [room])
        answers = [await sender.ask("select", room=ROOM, items=items) for items in (["a", "b"], [])]
        heard = [[await client.next("selection") for _ in range(2)] for client in (near, far)]
        for client in (sender, other_room, other_user):
            await client.ask("ping")

    assert [one["success"] for one in answers] == [True, True]
    assert heard == [[told("a", "b"), told()]] * 2
    assert [selected(client) for client in (sender, other_room, other_user)] == [[], [], []]


async def test_new_view_is_given_the_present_selection_on_every_gateway(pair: tuple[Gateway, Gateway]) -> None:
    """Also one that joins later, by another name of the room. Another user is given nothing."""
    first, second = pair
    token = first.auth.token
    async with open_socket(first.url) as sender, open_socket(second.url) as far, open_socket(second.url) as stranger:
        await sender.connect(token("editor"), [ROOM])
        await far.connect(token("editor"), [ROOM])
        await sender.ask("select", room=ROOM, items=ITEMS)
        await far.next("selection")
        answers = []
        for gateway in pair:
            async with open_socket(gateway.url) as new, open_socket(gateway.url) as joining:
                answers.append((await new.connect(token("editor"), [ROOM]))["rooms"][ROOM])
                await joining.connect(token("editor"))
                answers.append((await joining.ask("subscribe", rooms=["campaign:c1/campaign:c1"]))["rooms"])
        refused = (await stranger.connect(token("owner"), [ROOM]))["rooms"][ROOM]
        await sender.ask("select", room=ROOM, items=[])
        await far.next("selection")
        async with open_socket(second.url) as new:
            cleared = (await new.connect(token("editor"), [ROOM]))["rooms"][ROOM]

    assert [json.dumps(one).count('"selection": ["settlement:s1"]') for one in answers] == [1] * 4
    assert (refused, cleared) == ({"success": True}, {"success": True})


async def test_only_a_session_in_the_room_can_select_there(pair: tuple[Gateway, Gateway]) -> None:
    """Also not one that was removed. What the user had selected there is not told any more."""
    first, second = pair
    async with open_socket(second.url) as listener, open_socket(first.url) as client:
        await listener.connect(first.auth.token("editor"), [ROOM, "campaign:c2"])
        await client.connect(first.auth.token("editor"), [ROOM])
        refused = [await client.ask("select", room=room, items=ITEMS) for room in ("campaign:c2", "nonsense")]
        await publish_as_auth(first, member("editor", None))
        for one in (client, listener):
            await one.next("room.left")
        refused.append(await client.ask("select", room=ROOM, items=ITEMS))
        await client.ask("subscribe", rooms=["campaign:c2"])
        await client.ask("select", room="campaign:c2", items=ITEMS)
        await listener.next("selection")

    assert [one["error"]["code"] for one in refused] == ["forbidden"] * 3
    assert selected(listener) == [told(*ITEMS, room="campaign:c2")]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ("settlement:s1", "items: Input should be a valid array"),
        ([5], "items.0: Input should be a valid string"),
        (["x" * 129], "items.0: String should have at most 128 characters"),
        (["x"] * 21, "items: "),
        (None, "items: "),
    ],
)
async def test_selection_out_of_its_bounds_is_refused(gateway: Gateway, items: object, text: str) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("editor"), [ROOM])
        answer = await client.ask("select", room=ROOM, items=items)

    assert (answer["type"], answer["code"]) == ("error", "bad_request")
    assert text in answer["message"]


async def test_user_who_selects_too_often_is_refused_until_the_rate_allows_it_again(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """Over all connections. Another user is not affected."""
    async with (
        running_gateway(stream, auth, selections_per_minute_per_user=5) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as other,
    ):
        for client, user in ((one, "editor"), (two, "editor"), (other, "viewer")):
            await client.connect(auth.token(user), [ROOM])
        granted = [await one.ask("select", room=ROOM, items=[str(number)]) for number in range(5)]
        refused = [await client.ask("select", room=ROOM, items=ITEMS) for client in (one, two)]
        left = (await one.ask("ping", remaining=True))["remaining"]
        not_affected = await other.ask("select", room=ROOM, items=ITEMS)

    assert all(answer["success"] for answer in granted)
    assert selected(two) == [told(str(number)) for number in range(5)]
    for answer in refused:
        assert (answer["error"]["code"], answer["error"]["message"]) == (
            "too_many",
            "a user may select 5 times a minute",
        )
        assert answer["error"]["retryAfterMs"] > 0
    assert left["selectionsPerMinutePerUser"] == 0
    assert not_affected["success"]


async def test_messages_of_strangers_about_selections_are_dropped(
    pair: tuple[Gateway, Gateway], stream: NatsServer
) -> None:
    """Even with a gateway's password: of another shape, or with a reply as a consumer's has."""
    first, _ = pair
    subject = f"presence.{'f' * 16}.selection"
    good: dict[str, Any] = {"room": ROOM, "user": "editor", "n": 5, "items": ["forged"]}
    bad: list[dict[str, Any]] = [
        {"items": "forged"},
        {"items": [5]},
        {"items": ["x" * 129]},
        {"items": ["x"] * 21},
        {"n": -1},
        {"n": "5"},
        {"user": 5},
        {"room": "nonsense"},
    ]
    async with open_socket(first.url) as client:
        await client.connect(first.auth.token("editor"), [ROOM])
        async with connected(stream, "gateway") as stranger:
            await stranger.publish(subject, json.dumps(good).encode(), reply="reply")
            await stranger.publish("presence.not-a-gateway.selection", json.dumps(good).encode())
            for one in bad:
                await stranger.publish(subject, json.dumps({**good, **one}).encode())
            await stranger.publish(subject, json.dumps({**good, "items": ["real"]}).encode())
            await stranger.flush()
            heard = await client.next("selection")

    assert heard == told("real")


@pytest.mark.parametrize("user", ["publisher", "auth", "operator", "setup", "rules-engine"])
async def test_only_gateways_can_say_what_a_user_has_selected(stream: NatsServer, user: str) -> None:
    denied: list[str] = []

    async def note(problem: Exception) -> None:
        denied.append(str(problem).lower())

    async with connected(stream, user) as nc:
        nc._error_cb = note
        await nc.publish(f"presence.{'a' * 16}.selection", b"{}")
        while not denied:
            await nc.flush()

    assert "permissions violation" in denied[0]


# Without a broker.


class Clocks:
    """The clocks of a gateway."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wall = 1_000_000.0


def selections_of(core: Core, clocks: Clocks, **options: int) -> UsersSelections:
    """A gateway's selections, which no other gateway hears."""
    return UsersSelections(core, clock=lambda: clocks.now, wall_clock=lambda: clocks.wall, **options)


def test_gateways_that_hear_two_selections_in_any_order_end_with_the_same(core: Core) -> None:
    first, second = (Selected(CAMPAIGN, "u1", 1_000_000_000, (name,)) for name in ("a", "b"))
    later = Selected(CAMPAIGN, "u1", 1_000_000_001, ("0",))
    ends = []
    for order in ((first, second, later), (later, second, first), (second, later, first)):
        known = selections_of(core, Clocks())
        for one in order:
            known.hear(one)
        ends.append(known.of("u1", CAMPAIGN))

    assert ends == [("0",)] * 3


async def test_selection_is_newer_than_those_before_it_whatever_the_clocks_say(core: Core) -> None:
    """Another gateway's clock may be ahead, and this one's may go back. A clock that is hours ahead counts little."""
    clocks = Clocks()
    known = selections_of(core, clocks)
    said: list[Selected] = []
    known.tell_others = said.append
    (session,) = await connect(core, 1)
    user = session.user_id
    known.hear(Selected(CAMPAIGN, user, 1_000_030_000, ("ahead",)))
    known.set(session, CAMPAIGN, ("mine",))
    clocks.wall -= 3_600
    known.set(session, CAMPAIGN, ("later",))
    known.hear(Selected(CAMPAIGN, user, 9_000_000_000_000, ("far ahead",)))
    clocks.wall += 3_600 + 61
    known.set(session, CAMPAIGN, ("now",))

    assert [one.items for one in said] == [("mine",), ("later",), ("now",)]
    assert [one.number for one in said] == [1_000_030_001, 1_000_030_002, 1_000_061_000]


async def test_selection_that_changes_nothing_is_not_told(core: Core) -> None:
    """So two clients that repeat what they are told do not go on forever."""
    known = selections_of(core, Clocks())
    said: list[Selected] = []
    known.tell_others = said.append
    (session,) = await connect(core, 1)
    for items in (("a",), ("a",), ("b",)):
        known.set(session, CAMPAIGN, items)

    assert [one.items for one in said] == [("a",), ("b",)]


def test_what_is_kept_is_bounded_by_rooms_characters_and_time(core: Core) -> None:
    clocks = Clocks()
    known = selections_of(core, clocks, max_chars=100_000)
    rooms = [RoomKey(parse_pair(ROOM), parse_pair(f"settlement:s{number}")) for number in range(50)]
    for room in rooms:
        known.hear(Selected(room, "u1", 1, ("a",)))
    of_one_user = [known.of("u1", room) for room in rooms]
    for number in range(500):
        clocks.now += 1
        known.hear(Selected(CAMPAIGN, f"user{number}", 1, ("x" * 128,) * 20))
    of_many_users = len(known)
    known.turn(clocks.now)
    after_a_moment = len(known)
    known.turn(clocks.now + selections.KEEP_S - 3)
    after_hours = len(known)
    known.turn(clocks.now + selections.KEEP_S)

    assert of_one_user == [()] * 30 + [("a",)] * 20
    assert 30 < of_many_users == after_a_moment < 40
    assert known.of("user499", CAMPAIGN) == ()
    assert (after_hours, len(known)) == (3, 0)


# Every way in.


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_views_of_every_way_are_told(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    """A view that comes is given the selection, and one that is there is told of the next."""
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        running_gateway(stream, auth) as other,
        open_socket(other.url) as sender,
        open_socket(gateway.url) as witness,
    ):
        await sender.connect(auth.token("editor"), [ROOM])
        await witness.connect(auth.token("editor"), [ROOM])
        await sender.ask("select", room=ROOM, items=["first"])
        await witness.next("selection")
        async with way.open(gateway.url, auth.token("editor")) as visitor:
            given = visitor.ack["rooms"][ROOM]["selection"]
            waiting = asyncio.create_task(visitor.find(lambda heard: heard.kind == "selection"))
            while (await gateway.stats())["clients"] < 2:
                pass
            await sender.ask("select", room=ROOM, items=["second"])
            heard = await waiting

    assert given == ["first"]
    assert (heard.body["room"], heard.body["items"]) == (ROOM, ["second"])


NATIVE = json.dumps({"type": "select", "id": 9, "room": ROOM, "items": ITEMS})
SAID = {
    "beaconfire.v1": NATIVE,
    "beaconfire.v1.msgpack": NATIVE,
    "plain": json.dumps({"type": "select", "payload": {"room": ROOM, "items": ITEMS}}),
    "socketio": f'42["select",{json.dumps({"room": ROOM, "items": ITEMS})}]',
}


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_views_of_every_way_can_select(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        running_gateway(stream, auth) as other,
        open_socket(other.url) as client,
        way.open(gateway.url, auth.token("editor")) as visitor,
    ):
        await client.connect(auth.token("editor"), [ROOM])
        await visitor.send(SAID[way.dialect])
        heard = await client.next("selection")

    assert heard == told(*ITEMS)

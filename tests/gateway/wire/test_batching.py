"""Several events in one message, for clients that ask for it: on the core, and at a real gateway."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.outbound import Outbound
from beaconfire_gateway.fanout.route import Routes
from beaconfire_gateway.fanout.targets import CALLING, Target
from beaconfire_gateway.wire.batching import BatchingWire
from beaconfire_gateway.wire.deflate import DEFLATED, DeflatedFrames
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.native import BATCHING_SUBPROTOCOL, SUBPROTOCOL, Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.core import key
from tests.websocket import payloads

ROUTES = Routes()
PROTOCOLS = [BATCHING_SUBPROTOCOL, SUBPROTOCOL]


class Listener:
    """Stands for a session of a wire."""

    user_id = "u"
    writer = CALLING

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.writes: list[bytes] = []

    @property
    def target(self) -> Target:
        return self.writes.append

    @property
    def messages(self) -> list[Any]:
        return [json.loads(payload) for payload in payloads(b"".join(self.writes))]

    @property
    def offsets(self) -> list[int]:
        """The offsets of all events that it heard, in whatever messages."""
        messages = self.messages
        return [one["offset"] for message in messages for one in message.get("events", [message])]


class Fanout:
    """A hub and its outbound, with a loop that turns by hand."""

    def __init__(self, wire: Wire | None = None) -> None:
        self.wire = wire or BatchingWire(Native(), TextFrames())
        self.turns: list[Callable[[], None]] = []
        self.hub: Hub[Listener] = Hub()
        self.outbound = Outbound(self.hub, self.turns.append)
        self._offset = 0

    def listener(self, *rooms: str, wire: Wire | None = None) -> Listener:
        listener = Listener(wire or self.wire)
        for room in rooms:
            self.hub.join(listener, key(room), Role.VIEWER)
        return listener

    def deliver(self, subject: str, *, size: int = 0) -> int:
        self._offset += 1
        body = json.dumps({"n": self._offset, "text": "x" * size}).encode()
        self.outbound.put(self._offset, Entry(self._offset, ROUTES[subject], body, 0.0, type="t"))
        self.outbound.delivered(self._offset)
        return self._offset

    def settle(self) -> None:
        while self.turns:
            self.turns.pop(0)()


def test_events_of_one_turn_are_one_message() -> None:
    fanout = Fanout()
    listener = fanout.listener("campaign:c1")
    for number in (1, 2, 3):
        fanout.deliver(f"campaign.c1.settlement.s{number}")
    fanout.settle()
    [message] = listener.messages

    assert message["type"] == "events"
    assert [one["offset"] for one in message["events"]] == [1, 2, 3]
    assert message["events"][0] == {
        "type": "event",
        "offset": 1,
        "rooms": ["campaign:c1", "campaign:c1/settlement:s1"],
        "event": {"n": 1, "text": ""},
    }


def test_single_event_is_the_message_that_other_clients_get() -> None:
    fanout = Fanout()
    batching = fanout.listener("campaign:c1")
    other = fanout.listener("campaign:c1", wire=Wire(Native(), TextFrames()))
    fanout.deliver("campaign.c1.state")
    fanout.settle()

    assert batching.writes == other.writes


def test_sessions_in_several_rooms_get_each_event_once_and_share_the_bytes_of_a_message() -> None:
    fanout = Fanout()
    rooms = "campaign:c1", "campaign:c1/settlement:s1"
    both = [fanout.listener(*rooms) for _ in range(3)]
    one = fanout.listener("campaign:c1/settlement:s1")
    for number in (1, 2, 1):
        fanout.deliver(f"campaign.c1.settlement.s{number}")
    fanout.settle()

    assert [one.offsets for one in both] == [[1, 2, 3]] * 3
    assert one.offsets == [1, 3]
    assert len({id(data) for listener in both for data in listener.writes}) == 1


ROOMS = ["campaign:c1", "campaign:c1/settlement:s1", "campaign:c1/settlement:s2"]


@given(
    st.lists(st.sets(st.sampled_from(ROOMS), min_size=1), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from(["settlement.s1", "settlement.s2", "state"]), max_size=6), max_size=5),
)
def test_clients_that_batch_hear_the_same_events_in_the_same_order_as_others(
    joined: list[set[str]], turns: list[list[str]]
) -> None:
    fanout = Fanout()
    plain = Wire(Native(), TextFrames())
    pairs = [(fanout.listener(*rooms), fanout.listener(*rooms, wire=plain)) for rooms in joined]
    for turn in turns:
        for subject in turn:
            fanout.deliver(f"campaign.c1.{subject}")
        fanout.settle()

    for batching, other in pairs:
        assert batching.offsets == other.offsets
        assert len(batching.writes) == len(other.writes)


def test_message_has_at_most_128_kib() -> None:
    """Events that do not fit into it go into the next one, also if they came at the same moment."""
    fanout = Fanout()
    listener = fanout.listener("campaign:c1", "campaign:c1/settlement:s1")
    sent = [fanout.deliver("campaign.c1.settlement.s1", size=20_000) for _ in range(20)]
    sent.append(fanout.deliver("campaign.c1.state", size=65_000))
    fanout.settle()

    assert listener.offsets == sent
    assert max(map(len, payloads(b"".join(listener.writes)))) <= 131_072


def test_message_is_compressed_once_for_all_that_get_the_same_events() -> None:
    fanout = Fanout(BatchingWire(Native(), DeflatedFrames()))
    for _ in range(50):
        fanout.listener("campaign:c1", "campaign:c1/settlement:s1")
    before = DEFLATED._value.get()
    for _ in range(3):
        fanout.deliver("campaign.c1.settlement.s1", size=300)
    fanout.settle()

    assert DEFLATED._value.get() - before == 1


async def heard(client: SocketClient, through: int) -> list[list[int]]:
    """The offsets in each message of events, up to this offset."""
    found: list[list[int]] = []
    while not found or found[-1][-1] < through:
        message = await client.next("event", "events")
        found.append([one["offset"] for one in message.get("events", [message])])
    return found


@on_both_transports
async def test_client_that_offers_the_subprotocol_gets_missed_events_in_one_message(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    async with open_socket(gateway.url, protocols=PROTOCOLS) as client:
        cursor = (await client.connect(token))["cursor"]
    missed = [await gateway.publish(settlement()) for _ in range(10)]
    async with open_socket(gateway.url, protocols=PROTOCOLS) as client:
        await client.connect(token, ["campaign:c1"], cursor=cursor)
        caught_up = await heard(client, missed[-1])
        live = [await gateway.publish(settlement()) for _ in range(10)]
        after = await heard(client, live[-1])

    assert client.socket.protocol == BATCHING_SUBPROTOCOL
    assert caught_up == [missed]
    assert [offset for offsets in after for offset in offsets] == live


@on_both_transports
async def test_client_that_prefers_the_subprotocol_without_it_gets_events_one_by_one(gateway: Gateway) -> None:
    async with open_socket(gateway.url, protocols=PROTOCOLS[::-1]) as client:
        cursor = (await client.connect(gateway.auth.token("viewer")))["cursor"]
        missed = [await gateway.publish(settlement()) for _ in range(3)]
    async with open_socket(gateway.url, protocols=PROTOCOLS[::-1]) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        found = await heard(client, missed[-1])

    assert client.socket.protocol == SUBPROTOCOL
    assert found == [[offset] for offset in missed]


@pytest.mark.parametrize("compression", [False, True])
async def test_restored_events_come_in_restored_messages_as_for_other_clients(
    stream: NatsServer, auth: FakeAuth, compression: bool
) -> None:
    options: dict[str, Any] = {"compress": 15} if compression else {}
    async with (
        running_gateway(stream, auth, compression=compression) as gateway,
        open_socket(gateway.url, protocols=PROTOCOLS, **options) as client,
    ):
        cursor = (await client.connect(auth.token("viewer")))["cursor"]
        sent = [await gateway.publish(settlement()) for _ in range(3)]
        await client.ask("subscribe", rooms=["campaign:c1"], cursor=cursor)
        restored = await client.next("restored")

    assert [one["offset"] for one in restored["events"]] == sent

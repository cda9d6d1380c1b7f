"""Outbound, hub and ring deliver events to the right sessions, in order, in few writes. No I/O."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.fanout.entry import OVERHEAD, Entry
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.outbound import (
    BATCH_BYTES,
    BURST_S,
    JOINED,
    LISTEN_FROM_S,
    LISTEN_S,
    LISTEN_TIMES,
    REST_S,
    SLICE,
    WRITING_SHARE,
    Outbound,
)
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Route, Routes
from beaconfire_gateway.fanout.targets import CALLING, CallingWriter, Target, Writer
from beaconfire_gateway.fanout.wanted_types import WantedTypes
from beaconfire_kit.roles import Role
from tests.gateway.core import VERBATIM, key

ROUTES = Routes()


class Listener:
    """Stands for a session: a user, and what was written to it."""

    def __init__(self, user_id: str = "u") -> None:
        self.user_id = user_id
        self.writer: Writer = CALLING
        self.writes: list[bytes] = []

    wire = VERBATIM

    @property
    def target(self) -> Target:
        return self.write

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    @property
    def heard(self) -> str:
        return b"".join(self.writes).decode()


class Gateway:
    """A hub and its outbound, with a loop that turns, and a clock that goes on, by hand."""

    def __init__(self, hub: Hub[Listener] | None = None) -> None:
        self.hub: Hub[Listener] = Hub() if hub is None else hub
        self.turns: list[Callable[[], None]] = []
        self.now = 100.0
        self.outbound = Outbound(self.hub, self.turns.append, clock=lambda: self.now)
        self._offset = 0

    def join(self, listener: Listener, room: str, role: Role = Role.VIEWER, types: WantedTypes = None) -> None:
        self.outbound.seal()
        self.hub.join(listener, key(room), role, types)

    def leave(self, listener: Listener, room: str, role: Role = Role.VIEWER, types: WantedTypes = None) -> None:
        self.outbound.seal()
        self.hub.leave(listener, key(room), role, types)

    def deliver(self, subject: str, frame: str, audience: set[Role] | None = None, type_: str = "t") -> None:
        self._offset += 1
        roles = frozenset(audience) if audience else None
        entry = Entry(self._offset, ROUTES[subject], frame.encode(), 0.0, type=type_, audience=roles)
        self.outbound.put(self._offset, entry)
        self.outbound.delivered(self._offset)

    def turn(self) -> None:
        """One turn of the loop."""
        turns, self.turns[:] = list(self.turns), []
        for callback in turns:
            callback()

    def settle(self) -> None:
        while self.turns:
            self.turn()


def test_events_of_one_turn_are_joined_and_written_once() -> None:
    gateway, listener = Gateway(), Listener()
    gateway.join(listener, "campaign:c1")
    for letter in "abc":
        gateway.deliver("campaign.c1.settlement.s1", letter)
    assert listener.writes == []

    gateway.turn()
    assert listener.writes == [b"abc"]
    assert (gateway.outbound.frames_sent, gateway.outbound.writes) == (3, 1)


def test_session_in_several_rooms_gets_one_write_in_stream_order() -> None:
    gateway, both, one = Gateway(), Listener(), Listener()
    for room in ("campaign:c1/settlement:s1", "campaign:c1/settlement:s2"):
        gateway.join(both, room)
    gateway.join(one, "campaign:c1/settlement:s2")
    for number, letter in enumerate("abcd"):
        gateway.deliver(f"campaign.c1.settlement.s{1 + number % 2}", letter)
    gateway.settle()

    assert both.writes == [b"abcd"]
    assert one.writes == [b"bd"]


def test_event_that_matches_two_rooms_of_a_session_is_written_once() -> None:
    gateway, listener = Gateway(), Listener()
    gateway.join(listener, "campaign:c1")
    gateway.join(listener, "campaign:c1/settlement:s1")
    gateway.deliver("campaign.c1.settlement.s1", "a")
    gateway.settle()

    assert listener.writes == [b"a"]


def test_event_for_some_roles_skips_the_others() -> None:
    gateway, owner, viewer = Gateway(), Listener(), Listener()
    gateway.join(owner, "campaign:c1", Role.OWNER)
    gateway.join(viewer, "campaign:c1", Role.VIEWER)
    gateway.deliver("campaign.c1.state", "a")
    gateway.deliver("campaign.c1.state", "b", {Role.OWNER, Role.EDITOR})
    gateway.deliver("campaign.c1.state", "c")
    gateway.settle()

    assert (owner.heard, viewer.heard) == ("abc", "ac")


def test_event_is_skipped_for_sessions_that_want_other_types() -> None:
    """One room of two that wants the type is enough. The same holds in a turn with other events."""
    gateway, some, either, all_of_them = Gateway(), Listener(), Listener(), Listener()
    gateway.join(some, "campaign:c1", types=frozenset({"x"}))
    gateway.join(either, "campaign:c1", types=frozenset({"x"}))
    gateway.join(either, "campaign:c1/settlement:s1", types=frozenset({"y"}))
    gateway.join(all_of_them, "campaign:c1")
    for letter, type_ in (("a", "x"), ("b", "y"), ("c", "z")):
        gateway.deliver("campaign.c1.settlement.s1", letter, type_=type_)
        gateway.deliver("campaign.c1.settlement.s1", letter.upper(), type_=type_)
    gateway.settle()

    assert (some.heard, either.heard, all_of_them.heard) == ("aA", "aAbB", "aAbBcC")
    assert gateway.hub.sizes() == {"campaign:c1": 3, "campaign:c1/settlement:s1": 1}


def test_joining_session_gets_only_later_events_and_leaving_session_only_earlier_ones() -> None:
    gateway, early, late = Gateway(), Listener(), Listener()
    gateway.join(early, "campaign:c1")
    gateway.deliver("campaign.c1.state", "a")
    gateway.join(late, "campaign:c1")
    gateway.deliver("campaign.c1.state", "b")
    gateway.leave(early, "campaign:c1")
    gateway.deliver("campaign.c1.state", "c")
    gateway.settle()

    assert (early.heard, late.heard) == ("ab", "bc")


def test_large_room_is_written_in_slices_and_settled_rises_after_the_last() -> None:
    """Later events wait."""
    gateway, listeners = Gateway(), [Listener() for _ in range(2 * SLICE + 1)]
    for listener in listeners:
        gateway.join(listener, "campaign:c1")
    gateway.deliver("campaign.c1.state", "a")
    gateway.turn()
    written = sum(bool(listener.writes) for listener in listeners)
    settled = gateway.outbound.settled
    gateway.deliver("campaign.c1.state", "b")
    gateway.settle()

    assert (written, settled) == (SLICE, 0)
    assert {listener.heard for listener in listeners} == {"ab"}
    assert gateway.outbound.settled == 2


@pytest.mark.parametrize(
    ("rooms", "slices"),
    [
        ([1, 1, 1, 1, 1], [3, 2]),
        ([3, 3], [3, 3]),
        ([2, 4, 1], [3, 3, 1]),
        ([7], [3, 3, 1]),
        ([1, 6, 2], [3, 3, 3]),
    ],
)
def test_slice_covers_several_rooms_and_parts_of_rooms(rooms: list[int], slices: list[int]) -> None:
    """Every session gets its one write, at most a slice of them in a turn. The offset counts after the last."""
    gateway = Gateway()
    gateway.outbound = Outbound(gateway.hub, gateway.turns.append, clock=lambda: gateway.now, slice_sessions=3)
    listeners = [[Listener() for _ in range(count)] for count in rooms]
    for number, crowd in enumerate(listeners):
        for one in crowd:
            gateway.join(one, f"campaign:c{number}")
    for number in range(len(rooms)):
        gateway.deliver(f"campaign.c{number}.state", str(number))
    written, settled = [0], []
    while gateway.outbound.settled < len(rooms):
        settled.append(gateway.outbound.settled)
        gateway.turn()
        written.append(gateway.outbound.writes)

    assert [after - before for before, after in pairwise(written)][: len(slices)] == slices
    assert set(settled) == {0}
    assert [[one.writes for one in crowd] for crowd in listeners] == [
        [[str(number).encode()]] * count for number, count in enumerate(rooms)
    ]


def test_events_that_arrive_while_a_large_room_is_written_become_one_write_each() -> None:
    gateway, listener = Gateway(), Listener()
    crowd = [Listener() for _ in range(2 * SLICE)]
    for one in crowd:
        gateway.join(one, "campaign:c1")
    gateway.join(listener, "campaign:c2")
    gateway.deliver("campaign.c1.state", "a")
    gateway.turn()
    gateway.deliver("campaign.c2.state", "b")
    gateway.turn()
    gateway.deliver("campaign.c2.state", "c")
    gateway.settle()

    assert listener.writes == [b"bc"]
    assert all(one.heard == "a" for one in crowd)


def test_byte_bound_counts_what_one_session_gets_and_not_the_sum() -> None:
    gateway = Gateway()
    listeners = [Listener() for _ in range(8)]
    for number, listener in enumerate(listeners):
        gateway.join(listener, f"campaign:c{number}")
        gateway.join(listener, "campaign:c9")
    frame = "x" * (BATCH_BYTES // 16)
    for _ in range(4):
        for number in range(8):
            gateway.deliver(f"campaign.c{number}.state", frame)
    gateway.settle()

    assert [len(listener.writes) for listener in listeners] == [1] * 8


def test_byte_bound_counts_what_a_session_gets_over_all_its_rooms() -> None:
    gateway, busy, rooms = Gateway(), Listener(), range(8)
    for number in rooms:
        gateway.join(busy, f"campaign:c{number}")
        gateway.join(Listener(), f"campaign:c{number}")
    for _ in range(3):
        for number in rooms:
            gateway.deliver(f"campaign.c{number}.state", "x" * (BATCH_BYTES // 8))
    gateway.settle()

    assert sum(map(len, busy.writes)) == 3 * BATCH_BYTES
    assert max(map(len, busy.writes)) <= BATCH_BYTES


def test_session_that_leaves_when_its_socket_is_full_gets_at_most_one_more_batch_of_a_burst() -> None:
    """The other sessions get everything once and in order."""
    gateway = Gateway()

    class Full(Listener):
        def write(self, data: bytes) -> None:
            super().write(data)
            gateway.leave(self, "campaign:c1")

    full, others = Full(), [Listener() for _ in range(SLICE + 1)]
    for listener in [full, *others]:
        gateway.join(listener, "campaign:c1")
    frames = [chr(0x100 + number) * 500 for number in range(1_000)]
    for frame in frames:
        gateway.deliver("campaign.c1.state", frame)
    gateway.settle()

    assert BATCH_BYTES / 2 < sum(map(len, full.writes)) <= BATCH_BYTES
    assert {listener.heard for listener in others} == {"".join(frames)}
    assert gateway.outbound.settled == 1_000


class Slow(Listener):
    """A listener whose every write takes `takes_s` seconds."""

    def __init__(self, gateway: Gateway, takes_s: float) -> None:
        super().__init__()
        self._gateway = gateway
        self._takes_s = takes_s

    def write(self, data: bytes) -> None:
        super().write(data)
        self._gateway.now += self._takes_s


def join_slow(gateway: Gateway, takes_s: float) -> Slow:
    listener = Slow(gateway, takes_s)
    gateway.join(listener, "campaign:c1")
    return listener


def write_one(gateway: Gateway) -> None:
    """An event delivered and written, as in a gateway that is not busy: in the next turn."""
    gateway.deliver("campaign.c1.state", "a")
    gateway.turn()
    assert not gateway.turns


def test_after_a_long_write_outbound_gathers_events_until_a_turn_brings_none() -> None:
    gateway = Gateway()
    listener = join_slow(gateway, LISTEN_S / LISTEN_TIMES / 2)
    write_one(gateway)
    for letter in "bcd":
        gateway.deliver("campaign.c1.state", letter)
        gateway.turn()
    heard_while_listening, settled = listener.heard, gateway.outbound.settled
    gateway.turn()

    assert (heard_while_listening, settled) == ("a", 1)
    assert listener.writes == [b"a", b"bcd"]
    assert (gateway.outbound.settled, gateway.turns) == (4, [])


@pytest.mark.parametrize(
    ("takes_s", "listens_s"),
    [
        (LISTEN_S, LISTEN_S),
        (2 * LISTEN_FROM_S, LISTEN_TIMES * 2 * LISTEN_FROM_S),
        (LISTEN_FROM_S / 2, 0.0),
    ],
)
def test_gathering_after_a_long_write_is_bounded_by_time_and_by_the_write(takes_s: float, listens_s: float) -> None:
    gateway = Gateway()
    listener = join_slow(gateway, takes_s)
    write_one(gateway)
    began = gateway.now
    while len(listener.writes) == 1:
        gateway.deliver("campaign.c1.state", "b")
        gateway.turn()
        listened_s = gateway.now - began
        gateway.now += LISTEN_FROM_S / 4

    assert listened_s == pytest.approx(listens_s + takes_s, abs=LISTEN_FROM_S / 2)


def test_event_does_not_wait_when_the_last_long_write_is_long_ago() -> None:
    gateway = Gateway()
    listener = join_slow(gateway, LISTEN_S)
    write_one(gateway)
    gateway.now += LISTEN_S
    write_one(gateway)

    assert listener.writes == [b"a", b"a"]


def test_gathering_time_counts_all_slices_of_a_large_room() -> None:
    gateway = Gateway()
    crowd = [join_slow(gateway, 0.75 * LISTEN_FROM_S / SLICE) for _ in range(2 * SLICE)]
    gateway.deliver("campaign.c1.state", "a")
    gateway.settle()
    gateway.deliver("campaign.c1.state", "b")
    gateway.turn()
    assert {listener.heard for listener in crowd} == {"a"}

    gateway.settle()
    assert {listener.heard for listener in crowd} == {"ab"}


def write_some(gateway: Gateway, letters: str = "a") -> None:
    """Events delivered in one turn, and written at once, together."""
    for letter in letters:
        gateway.deliver("campaign.c1.state", letter)
    gateway.now += LISTEN_S  # the last writing is long ago
    gateway.settle()


def test_gateway_rests_when_writing_takes_more_than_its_share_and_never_longer_than_the_bound() -> None:
    gateway = Gateway()
    join_slow(gateway, BURST_S * WRITING_SHARE)
    rests = []
    for _ in range(20):
        gateway.deliver("campaign.c1.state", "a")
        gateway.settle()
        rests.append(gateway.outbound.rest_s)

    assert rests[0] == 0  # a burst is free
    assert 0 < rests[1] < rests[2]
    assert max(rests) == pytest.approx(REST_S)

    gateway.now += max(rests)
    assert gateway.outbound.rest_s == 0


def test_gateway_whose_writing_keeps_to_its_share_never_rests() -> None:
    gateway = Gateway()
    takes_s = BURST_S / 2
    join_slow(gateway, takes_s)
    for _ in range(20):
        gateway.deliver("campaign.c1.state", "a")
        gateway.settle()
        gateway.now += takes_s / WRITING_SHARE - takes_s
        assert gateway.outbound.rest_s == pytest.approx(0, abs=1e-9)


def test_gateway_that_writes_many_events_at_a_time_does_not_rest() -> None:
    """It has joined what it can, and is behind: a rest would only make it wait."""
    many, few = Gateway(), Gateway()
    for gateway, letters in [(many, "a" * JOINED), (few, "a" * (JOINED - 1))]:
        join_slow(gateway, REST_S)
        for _ in range(5):
            write_some(gateway, letters)

    assert many.outbound.rest_s == 0
    assert few.outbound.rest_s > 0


def test_join_or_reply_ends_the_gathering_and_pending_events_are_written_first() -> None:
    gateway, late = Gateway(), Listener()
    listener = join_slow(gateway, LISTEN_S)
    write_one(gateway)
    gateway.deliver("campaign.c1.state", "b")
    gateway.join(late, "campaign:c1")
    gateway.turn()
    assert (listener.heard, late.heard) == ("ab", "")

    gateway.deliver("campaign.c1.state", "c")
    gateway.outbound.send(listener, b"!")
    gateway.turn()
    assert (listener.heard, late.heard) == ("abc!", "c")


def test_bytes_beyond_the_bound_end_the_gathering_in_the_same_turn() -> None:
    gateway = Gateway()
    listener = join_slow(gateway, LISTEN_S)
    write_one(gateway)
    half = BATCH_BYTES // 2 - OVERHEAD
    for _ in range(3):
        gateway.deliver("campaign.c1.state", "b" * half)
        gateway.turn()

    assert [len(data) for data in listener.writes] == [1, 2 * half]
    assert len(gateway.turns) == 1


def test_remembered_member_lists_of_rooms_are_bounded() -> None:
    gateway, listeners = Gateway(Hub(max_remembered_targets=500)), [Listener() for _ in range(100)]
    for listener in listeners:
        gateway.join(listener, "campaign:c1")
    for number in range(50):
        gateway.join(listeners[0], f"campaign:c1/settlement:s{number}")
    for number in range(50):
        gateway.deliver(f"campaign.c1.settlement.s{number}", "x")
        gateway.settle()

    remembered = {one: len(one.targets) for found in gateway.hub._by_event.values() for one in found}
    assert sum(remembered.values()) <= 500 + 100
    assert {listener.heard for listener in listeners} == {"x" * 50}


def test_reply_is_written_behind_the_events_queued_for_its_session() -> None:
    gateway, listeners = Gateway(), [Listener() for _ in range(SLICE + 1)]
    for listener in listeners:
        gateway.join(listener, "campaign:c1")
    gateway.deliver("campaign.c1.state", "a")
    gateway.outbound.send(listeners[-1], b"!")
    gateway.settle()

    assert listeners[-1].heard == "a!"


def test_aborted_connection_does_not_stop_writes_to_others() -> None:
    class Dead(Listener):
        def write(self, data: bytes) -> None:
            raise RuntimeError("the handler is closed")

    gateway, listeners = Gateway(), [Listener(), Dead(), Listener()]
    for listener in listeners:
        gateway.join(listener, "campaign:c1")
    gateway.deliver("campaign.c1.state", "a")
    gateway.settle()

    assert [listener.heard for listener in listeners] == ["a", "", "a"]
    assert gateway.outbound.settled == 1


def test_failing_callback_after_a_write_runs_once_and_stops_nothing() -> None:
    gateway, listeners, calls = Gateway(), [Listener() for _ in range(SLICE + 1)], []

    def fail() -> None:
        calls.append("failed")
        raise ValueError("not there any more")

    for listener in listeners:
        gateway.join(listener, "campaign:c1")
    gateway.deliver("campaign.c1.state", "a")
    gateway.outbound.after(fail)
    gateway.outbound.after(lambda: calls.append("done"))
    gateway.turn()
    with pytest.raises(ValueError, match="not there"):
        gateway.turn()
    gateway.settle()

    assert calls == ["failed", "done"]
    assert gateway.outbound.settled == 1


def test_hub_keeps_nothing_of_a_room_or_user_after_the_last_one_leaves() -> None:
    gateway, listener = Gateway(), Listener("u1")
    gateway.hub.add(listener)
    gateway.join(listener, "campaign:c1")
    gateway.join(listener, "campaign:c1/settlement:s1", Role.OWNER)
    gateway.leave(listener, "campaign:c1")
    gateway.leave(listener, "campaign:c1")
    gateway.leave(listener, "campaign:c1/settlement:s1", Role.OWNER)
    gateway.hub.remove(listener)

    assert (len(gateway.hub), len(gateway.hub.users), gateway.hub.sizes()) == (0, 0, {})


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("event"),
            st.integers(0, 3),
            st.tuples(st.sampled_from([None, {Role.OWNER}]), st.sampled_from(["a", "b"])),
        ),
        st.tuples(st.just("join"), st.integers(0, 4), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, 4), st.integers(0, 3)),
        st.tuples(st.just("turn"), st.none(), st.none()),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([0.0, LISTEN_FROM_S]))
def test_every_listener_hears_exactly_its_events_once_and_in_order_in_any_course(
    steps: list[tuple[str, Any, Any]], takes_s: float
) -> None:
    """Events, joins, leaves, turns of the loop and slow writes in any order.

    A listener hears what was delivered while it was in the room, if its role may hear it and it wants the type. It
    makes no difference which writer writes to it.
    """
    gateway = Gateway()
    listeners = [Slow(gateway, takes_s) for _ in range(5)]
    listeners[1].writer = listeners[4].writer = CallingWriter()  # as if two transports had them
    roles = [Role.OWNER, Role.VIEWER, Role.VIEWER, Role.EDITOR, Role.OWNER]
    types: list[WantedTypes] = [None, frozenset("a"), None, frozenset("ab"), frozenset("b")]
    rooms = ["campaign:c1", "campaign:c1/settlement:s1", "campaign:c1/settlement:s2", "campaign:c2"]
    subjects = ["campaign.c1.state", "campaign.c1.settlement.s1", "campaign.c1.settlement.s2", "campaign.c2.state"]
    matches = [{0}, {0, 1}, {0, 2}, {3}]
    inside: list[set[int]] = [set() for _ in listeners]
    expected = ["" for _ in listeners]
    for number, (step, first, second) in enumerate(steps):
        if step == "event":
            letter = chr(0x100 + number)
            audience, type_ = second
            gateway.deliver(subjects[first], letter, audience, type_)
            for index, (role, wanted) in enumerate(zip(roles, types, strict=True)):
                may = audience is None or role in audience
                wants = wanted is None or type_ in wanted
                if inside[index] & matches[first] and may and wants:
                    expected[index] += letter
        elif step == "join":
            gateway.join(listeners[first], rooms[second], roles[first], types[first])
            inside[first].add(second)
        elif step == "leave":
            gateway.leave(listeners[first], rooms[second], roles[first], types[first])
            inside[first].discard(second)
        else:
            gateway.turn()
    gateway.settle()

    assert [listener.heard for listener in listeners] == expected


def entry(offset: int, size: int = 0, at: float = 0.0) -> Entry:
    return Entry(offset, Route("campaign.c1", ()), b"x" * size, at, type="t")


def test_ring_gives_what_follows_an_offset_page_by_page() -> None:
    ring = Ring(max_bytes=1_000_000, max_age_s=60)
    ring.start(10)
    for offset in (11, 14, 15, 20):
        ring.append(entry(offset))

    assert [one.offset for one in ring.after(11, 2)] == [14, 15]
    assert [one.offset for one in ring.after(16, 10)] == [20]
    assert list(ring.after(20, 10)) == []
    assert (ring.covers(10), ring.covers(9)) == (True, False)


def test_ring_keeps_to_its_bytes_and_age_and_knows_from_where_it_is_complete() -> None:
    ring = Ring(max_bytes=10_000, max_age_s=60)
    for offset in range(1, 5001):
        ring.append(entry(offset, 800))
    by_bytes = (ring.bytes <= 10_000, len(ring), ring.covers(4990), ring.covers(4989))
    ring.append(entry(5001, 1, at=100.0))

    assert by_bytes == (True, 10, True, False)
    assert ([one.offset for one in ring.after(0, 10)], ring.floor) == ([5001], 5000)


def test_new_epoch_empties_the_ring() -> None:
    ring = Ring(max_bytes=10_000, max_age_s=60)
    ring.append(entry(500))
    ring.start(3)

    assert (len(ring), ring.bytes, ring.floor) == (0, 0, 3)

"""Which events are held, and when they go out. The courses of whole sessions are in `test_conflation_model`."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from beaconfire_gateway.fanout.checking import Checker, Stored
from beaconfire_gateway.fanout.conflation import MAX_HELD_BYTES, MAX_KEYS, Key, key_of
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.stream.delivery import Delivery
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import Conflation
from beaconfire_kit.catalogue.timeline import Timeline
from beaconfire_kit.errors import UNAVAILABLE, BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from tests.gateway.catalogues import catalogue_with, couriers
from tests.gateway.core import ROUTE, Open, build_core, settled, spawning
from tests.gateway.events import BODY
from tests.gateway.lines import Connected, Socket

ROOM = "campaign:c1"


class Realm:
    """A gateway's core with its delivery, and one client in `campaign:c1`."""

    def __init__(self, catalogue: Catalogue, *, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        loop = asyncio.get_running_loop()
        self.timers: list[Callable[[], None]] = []
        self.core: Gateway = build_core(
            call_soon=loop.call_soon,
            call_later=lambda _seconds, callback: self.timers.append(callback),
            spawn=spawning(loop),
            epoch="e",
            max_held_bytes=max_held_bytes,
        )
        self.timeline = Timeline()
        self.timeline.begin([(0, catalogue)])
        self.delivery = Delivery(self.core, cast(Any, Open()), Checker(self.timeline), self._set_aside)
        self.socket = Socket()
        self.session = Connected(self.core, self.socket)
        self.offset = 0

    def _set_aside(self, error: Exception, *_: object) -> None:
        pytest.fail(str(error))

    async def join(self) -> None:
        hello = {"type": "connect", "id": 1, "token": "ann", "rooms": [ROOM]}
        self.session.receive(json.dumps(hello).encode())
        await settled()
        self.socket.frames.clear()

    def body(self, courier: str, step: int, type_: str = "courier.moved", **metadata: Any) -> bytes:
        payload = {"courierId": courier, "step": step}
        metadata = {**BODY["metadata"], **metadata}
        return json.dumps({**BODY, "id": f"e{step}", "type": type_, "payload": payload, "metadata": metadata}).encode()

    def move(self, courier: str, *steps: int, **options: Any) -> None:
        """Deliver events of a courier, as the intake does."""
        for step in steps:
            self.offset += 1
            subject = f"campaign.c1.courier.{courier}"
            self.delivery.deliver(self.offset, Stored(subject, self.body(courier, step, **options), has_ttl=False))

    def move_unstored(self, courier: str, *steps: int) -> None:
        for step in steps:
            subject = f"ephemeral.campaign.c1.courier.{courier}".encode()
            self.delivery.deliver_ephemeral(subject, b"", self.body(courier, step), None)

    def end_windows(self) -> None:
        timers, self.timers = self.timers, []
        for end in timers:
            end()

    async def heard(self) -> list[tuple[int, int | None]]:
        """The step and the offset of each event that the client was sent since it was last asked."""
        await settled()
        frames, self.socket.frames = self.socket.frames, []
        return [(one["event"]["payload"]["step"], one.get("offset")) for one in frames if one["type"] == "event"]


@pytest.fixture(name="realm")
async def _realm() -> Realm:
    realm = Realm(catalogue_with(couriers()))
    await realm.join()
    return realm


async def test_first_event_comes_at_once_and_the_latest_at_the_end_of_the_window_without_an_offset(
    realm: Realm,
) -> None:
    realm.move("k1", 1, 2, 3)
    realm.move("k2", 4)
    at_once = await realm.heard()
    realm.end_windows()

    assert at_once == [(1, 1), (4, 4)]
    assert await realm.heard() == [(3, None)]


async def test_event_that_was_held_has_the_cursor_that_its_client_has_reached(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    realm.move("k2", 3)
    realm.end_windows()
    await settled()

    assert realm.socket.frames[-1]["cursor"] == "e:3"
    assert realm.socket.frames[-1]["event"]["id"] == "e2"


async def test_key_that_was_sent_late_waits_for_the_next_window(realm: Realm) -> None:
    """So a client gets one event of a key in a window, however many there are."""
    realm.move("k1", 1, 2)
    realm.end_windows()
    realm.move("k1", 3)
    second = await realm.heard()
    realm.end_windows()
    third = await realm.heard()
    realm.end_windows()
    realm.move("k1", 4)

    assert second == [(1, 1), (2, None)]
    assert third == [(3, None)]
    assert await realm.heard() == [(4, 4)]


async def test_types_without_conflation_are_queued_without_a_detour(realm: Realm) -> None:
    """Their events take the same calls as in a deployment that conflates nothing."""
    realm.move("k1", 1, 2, 3, type_="courier.called")
    kind = realm.delivery._kinds["courier.called"]

    assert await realm.heard() == [(1, 1), (2, 2), (3, 3)]
    assert kind.put == realm.core.outbound.put
    assert not realm.core.waiters.waiting


async def test_events_for_different_roles_do_not_replace_each_other(realm: Realm) -> None:
    realm.move("k1", 1)
    realm.move("k1", 2, 3, audience=None)
    realm.move("k1", 4, audience=["owner"])
    realm.end_windows()

    assert await realm.heard() == [(1, 1), (3, None)]


async def test_event_of_a_room_that_was_left_in_the_window_is_not_delivered(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    await realm.heard()
    realm.session.leave(ROOM)
    realm.end_windows()

    assert await realm.heard() == []


async def test_event_of_a_root_whose_membership_ended_in_the_window_is_not_delivered(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    await realm.heard()
    realm.session.leave_root(Pair("campaign", "c1"), "membership_removed")
    realm.end_windows()

    assert await realm.heard() == []


async def test_event_for_a_role_that_was_taken_in_the_window_is_not_delivered(realm: Realm) -> None:
    realm.session.change_role(Pair("campaign", "c1"), Role.OWNER)
    realm.move("k1", 1, 2, audience=["owner"])
    before = await realm.heard()
    realm.session.change_role(Pair("campaign", "c1"), Role.VIEWER)
    realm.end_windows()

    assert before == [(1, 1)]
    assert await realm.heard() == []


async def test_events_held_when_the_gateway_stops_go_out_before_the_close(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    realm.core.close_all(BeaconfireError(UNAVAILABLE, "stopping"))

    assert await realm.heard() == [(1, 1), (2, None)]


async def test_events_held_when_the_catalogue_changes_go_out_and_later_ones_follow_the_new_rule(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    realm.timeline.add(realm.offset, catalogue_with(couriers(is_conflated=False)))
    realm.move("k1", 3, 4)

    assert await realm.heard() == [(1, 1), (2, None), (3, 3), (4, 4)]


async def test_ephemeral_events_are_conflated_too_and_have_no_cursor() -> None:
    realm = Realm(catalogue_with(couriers(ephemeral=True)))
    await realm.join()
    realm.core.catalogue = cast(Any, SimpleNamespace(known=realm.timeline.current))
    realm.move_unstored("k1", 1, 2, 3)
    at_once = await realm.heard()
    realm.end_windows()
    await settled()

    assert at_once == [(1, None)]
    assert [one["event"]["payload"]["step"] for one in realm.socket.frames] == [3]
    assert "cursor" not in realm.socket.frames[0]


async def test_window_ends_early_when_many_offsets_have_passed() -> None:
    """So a gateway to which the client comes back knows how far it has to look."""
    realm = Realm(catalogue_with(couriers()))
    realm.core.conflation._held_behind = 10
    await realm.join()
    realm.move("k1", 1, 2)
    realm.move("k2", *range(3, 11), type_="courier.called")
    before = await realm.heard()
    realm.move("k2", 11, type_="courier.called")

    assert (2, None) not in before
    assert await realm.heard() == [(11, 11), (2, None)]


async def test_keys_beyond_the_bound_of_a_window_are_not_held(realm: Realm) -> None:
    window = realm.core.conflation
    realm.move("k1", 1)
    next(iter(window._windows.values())).held.update({("t", "s", b"%d" % n): None for n in range(MAX_KEYS)})
    realm.move("k2", 2, 3)

    assert await realm.heard() == [(1, 1), (2, 2), (3, 3)]


async def test_all_windows_end_if_more_bytes_are_held_than_the_bound() -> None:
    realm = Realm(catalogue_with(couriers()), max_held_bytes=1_000)
    await realm.join()
    for courier in ("k1", "k2", "k3"):
        realm.move(courier, 1, 2)
    early = await realm.heard()
    realm.end_windows()
    late = await realm.heard()

    assert early[:3] == [(1, 1), (1, 3), (1, 5)]
    assert (2, None) in early
    assert len(early + late) == 6
    assert realm.core.conflation.held_bytes == 0


async def test_bytes_of_events_that_were_replaced_or_sent_do_not_count(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    of_one = realm.core.conflation.held_bytes
    realm.move("k1", *range(3, 9))
    of_the_last = realm.core.conflation.held_bytes
    realm.end_windows()

    assert of_one == of_the_last > 0
    assert realm.core.conflation.held_bytes == 0


async def test_window_that_was_ended_early_keeps_nothing_until_its_timer(realm: Realm) -> None:
    window = realm.core.conflation
    realm.move("k1", 1, 2)
    first = next(iter(window._windows.values()))
    window.flush()

    assert not first.held


def test_key_is_short_however_long_its_value_is() -> None:
    rule = Conflation("/name", 200)

    def key(name: str) -> Key:
        body = json.dumps({"payload": {"name": name}}).encode()
        return key_of(Entry(1, ROUTE, body, 0.0, type="courier.moved"), rule)

    assert key("k" * 60_000) == key("k" * 60_000) != key("k" * 59_999)
    assert len(key("k" * 60_000)[2]) < 100


async def test_event_held_for_a_slow_client_reaches_it_when_it_reads_again(realm: Realm) -> None:
    realm.move("k1", 1, 2)
    await realm.heard()
    realm.socket.paused = True
    realm.session.full()
    realm.end_windows()
    while_full = await realm.heard()
    realm.socket.paused = False
    realm.session.drained()

    assert while_full == []
    assert await realm.heard() == [(2, None)]

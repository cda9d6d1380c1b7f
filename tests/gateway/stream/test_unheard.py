"""Events that no session listens to: kept as they came, checked later, never lost and never let through unchecked."""

import asyncio
import json
from typing import Any

import pytest

from beaconfire_gateway.fanout.checking import Checker, Stored
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.sessions.authorization import Authorization
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.stream.delivery import UNCHECKED, Delivery
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.invalid_event import InvalidEvent
from tests.client import open_socket
from tests.conftest import connected
from tests.gateway.catalogues import builtin_timeline
from tests.gateway.conftest import Gateway, settlement
from tests.gateway.core import build_core
from tests.gateway.events import BODY, raw_publish

SUBJECT = "campaign.c1.settlement.s1"
GOOD = json.dumps(BODY).encode()


class Unattended:
    """A delivery without a client, and the messages that it set aside."""

    def __init__(self, ring_bytes: int = 1_000_000) -> None:
        self.refused: list[tuple[str, int | None]] = []
        hub: Hub[Session] = Hub()
        authorization = Authorization(None, None, hub)  # type: ignore[arg-type]  # no session asks
        self.core = build_core(
            call_soon=lambda _call: None,
            spawn=lambda _coroutine: None,
            access=authorization,
            hub=hub,
            ring_bytes=ring_bytes,
            epoch="e",
        )
        self.delivery = Delivery(self.core, authorization, Checker(builtin_timeline()), self._set_aside)
        self._offset = 0

    def _set_aside(self, error: InvalidEvent, _subject: str, _body: bytes, cursor: Cursor | None) -> None:
        assert cursor is not None
        self.refused.append((error.reason, cursor.offset))

    def take(self, *bodies: bytes) -> None:
        for body in bodies:
            self._offset += 1
            self.delivery.deliver(self._offset, Stored(SUBJECT, body, False))


def test_unheard_events_are_checked_later_in_order_a_few_at_a_time() -> None:
    gateway = Unattended()
    gateway.take(GOOD, b"garbage", GOOD, b"{}")
    before = list(gateway.refused)
    gateway.delivery.check_some(2)
    halfway = list(gateway.refused)
    for _ in range(3):
        gateway.delivery.check_some(2)

    assert (before, halfway) == ([], [("not_json", 2)])
    assert gateway.refused == [("not_json", 2), ("unknown_type", 4)]


def test_unheard_event_is_checked_when_it_is_needed() -> None:
    gateway = Unattended()
    gateway.take(GOOD, b"garbage")
    good, bad = gateway.core.ring.after(0, 10)
    good.check()
    bad.check()
    heard = Checker(builtin_timeline()).check("e", 1, Stored(SUBJECT, GOOD, False))

    assert (good.type, good.body, good.audience) == (heard.type, heard.body, heard.audience)
    assert (bad.body, bad.audience) == (b"", frozenset())
    assert gateway.refused == [("not_json", 2)]


def test_unheard_events_that_leave_the_ring_unchecked_are_counted() -> None:
    gateway = Unattended(ring_bytes=3_000)
    before = UNCHECKED._value.get()
    gateway.take(*[GOOD] * 100)
    gateway.delivery.check_some(100)
    kept = len(gateway.core.ring)
    gateway.core.ring.start(100)

    assert UNCHECKED._value.get() - before == 100 - kept
    assert 0 < kept < 10
    assert gateway.core.ring.bytes == 0


def test_failing_check_of_an_unheard_event_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Unattended()
    gateway.take(GOOD, b"garbage")
    check = Checker.check

    def fail_once(*_: object) -> None:
        monkeypatch.setattr(Checker, "check", check)
        raise RuntimeError

    monkeypatch.setattr(Checker, "check", fail_once)
    gateway.delivery.check_some(10)

    assert gateway.refused == [("not_json", 2)]
    assert gateway.core.ring.after(0, 1)[0].audience == frozenset()


def test_new_epoch_starts_the_checking_over() -> None:
    gateway = Unattended()
    gateway.take(GOOD, GOOD)
    gateway.delivery.check_some(10)
    gateway.core.epoch = "f"
    gateway.core.ring.start(0)
    gateway._offset = 0
    gateway.take(b"garbage")
    gateway.delivery.check_some(10)

    assert gateway.refused == [("not_json", 1)]


@pytest.mark.parametrize("subject", ["campaign.c1.member.u1", "user.u1.access"])
def test_change_of_access_is_read_at_once_without_listeners(subject: str) -> None:
    gateway = Unattended()
    gateway.delivery.deliver(1, Stored(subject, b"garbage", False))

    assert gateway.refused == [("not_json", 1)]


async def test_resuming_client_gets_unheard_events_and_invalid_ones_are_set_aside(gateway: Gateway) -> None:
    letters: asyncio.Queue[str] = asyncio.Queue()

    async def keep(message: Any) -> None:
        await letters.put(message.subject)

    async with connected(gateway.server, "operator") as operator:
        await operator.subscribe("deadletter.>", cb=keep)
        await operator.flush()
        async with open_socket(gateway.url) as client:
            ack = await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        first = await gateway.publish(settlement("s1"))
        await raw_publish(gateway, SUBJECT, b"garbage")
        last = await gateway.publish(settlement("s2"))
        async with asyncio.timeout(10):
            letter = await letters.get()
        async with open_socket(gateway.url) as client:
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=ack["cursor"])
            events = await client.events(2)

    assert letter == "deadletter.not_json"
    assert [event["offset"] for event in events] == [first, last]

"""Events that nobody here listens to when they come: kept as they came, checked later, never lost or let through."""

import asyncio
import json
from typing import Any

import pytest

from beaconfire_gateway.fanout.encoding import Encoder, Stored
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.targets import CallingWriter
from beaconfire_gateway.sessions.membership import Membership
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.stream.delivery import UNCHECKED, Delivery
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.envelope import InvalidEvent
from tests.client import open_socket
from tests.conftest import connected
from tests.gateway.conftest import Gateway, settlement
from tests.gateway.core import build_core
from tests.gateway.events import BODY, raw_publish

SUBJECT = "campaign.c1.settlement.s1"
GOOD = json.dumps(BODY).encode()


class Unattended:
    """A delivery with nobody connected, and what it set aside."""

    def __init__(self, ring_bytes: int = 1_000_000) -> None:
        self.refused: list[tuple[str, int | None]] = []
        hub: Hub[Session] = Hub()
        membership = Membership(None, None, hub)  # type: ignore[arg-type]  # nobody asks
        self.core = build_core(
            CallingWriter(),
            call_soon=lambda _call: None,
            spawn=lambda _coroutine: None,
            access=membership,
            hub=hub,
            ring_bytes=ring_bytes,
            epoch="e",
        )
        self.delivery = Delivery(self.core, membership, Encoder(), self._set_aside)
        self._offset = 0

    def _set_aside(self, error: InvalidEvent, _subject: str, _body: bytes, cursor: Cursor | None) -> None:
        assert cursor is not None
        self.refused.append((error.reason, cursor.offset))

    def take(self, *bodies: bytes) -> None:
        for body in bodies:
            self._offset += 1
            self.delivery.deliver(self._offset, Stored(SUBJECT, body, False))


def test_checked_when_there_is_time() -> None:
    """Each is checked once, so many at a time, in order; an invalid one is set aside with its place."""
    gateway = Unattended()
    gateway.take(GOOD, b"garbage", GOOD, b"{}")
    before = list(gateway.refused)
    gateway.delivery.check_some(2)
    halfway = list(gateway.refused)
    for _ in range(3):
        gateway.delivery.check_some(2)

    assert (before, halfway) == ([], [("not_json", 2)])
    assert gateway.refused == [("not_json", 2), ("unknown_type", 4)]


def test_checked_when_looked_into() -> None:
    """One that is wanted before there was time is the frame it would have been, or for nobody where it is no event."""
    gateway = Unattended()
    gateway.take(GOOD, b"garbage")
    good, bad = gateway.core.ring.after(0, 10)
    good.check()
    bad.check()
    heard = Encoder().encode(1, Stored(SUBJECT, GOOD, False))

    assert (good.type, good.body, good.audience) == (heard.type, heard.body, heard.audience)
    assert (bad.body, bad.audience) == (b"", frozenset())
    assert gateway.refused == [("not_json", 2)]


def test_counted_where_there_was_no_time() -> None:
    """What left the ring before it was checked is counted, and the ring's bytes come back."""
    gateway = Unattended(ring_bytes=3_000)
    before = UNCHECKED._value.get()
    gateway.take(*[GOOD] * 100)
    gateway.delivery.check_some(100)
    kept = len(gateway.core.ring)
    gateway.core.ring.start(100)

    assert UNCHECKED._value.get() - before == 100 - kept
    assert 0 < kept < 10
    assert gateway.core.ring.bytes == 0


def test_our_own_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with one, it is for nobody, and those behind it are checked."""
    gateway = Unattended()
    gateway.take(GOOD, b"garbage")
    encode = Encoder.encode

    def fail_once(*_: object) -> None:
        monkeypatch.setattr(Encoder, "encode", encode)
        raise RuntimeError

    monkeypatch.setattr(Encoder, "encode", fail_once)
    gateway.delivery.check_some(10)

    assert gateway.refused == [("not_json", 2)]
    assert gateway.core.ring.after(0, 1)[0].audience == frozenset()


def test_another_epoch() -> None:
    """Where the stream begins anew, checking begins anew."""
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
def test_access_is_never_left_for_later(subject: str) -> None:
    """What changes who may hear is read at once, whoever listens."""
    gateway = Unattended()
    gateway.delivery.deliver(1, Stored(subject, b"garbage", False))

    assert gateway.refused == [("not_json", 1)]


async def test_resumed_into(gateway: Gateway) -> None:
    """A client that resumes gets what nobody heard, without what is no event; that is set aside."""
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

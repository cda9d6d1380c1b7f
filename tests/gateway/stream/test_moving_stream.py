"""The stream changes while a gateway reads it: the broker is killed, retention goes on, messages are erased."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.app import Tuning
from beaconfire_gateway.stream import intake as intake_module
from beaconfire_gateway.stream.replay import OnMessage, Reader
from beaconfire_kit import broker
from tests.broker_changes import call_api, declare
from tests.client import Closed, SocketClient, open_socket
from tests.conftest import At, connected
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import fence, raw_publish
from tests.gateway.listening import Ear, listening, publish, while_reading
from tests.gateway.streams import cursor_now, push_out
from tests.proxy import Proxy

BODY = b'{"x":"' + b"x" * 4_000 + b'"}'
CUT_LETTERS = {
    "of three bytes": b"\xe2\x82",
    "of four bytes": b"\xf0\x9f\x98",
    "one byte": b"\xff",
    "a replacement character": "\ufffd".encode(),
    "a whole letter": "ü".encode(),
}


async def pour(nc: Client, count: int, *, prefix: str = "p", subject: str = "campaign.c1.settlement.s1") -> int:
    """Publish many large messages at once. Returns the highest offset."""
    stored = [broker.publish(nc, subject, BODY, message_id=f"{prefix}{number}") for number in range(count)]
    return max(await asyncio.gather(*stored))


class Interruption:
    """Cuts gateways off and kills the broker in the middle of the first read, after some messages have come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, server: NatsServer, route: Proxy, *, after: int) -> None:
        self.reached = 0
        self.happened = asyncio.Event()
        self._server = server
        self._route = route
        self._after = after
        self._read = Reader.read
        monkeypatch.setattr(Reader, "read", lambda reader, **options: self._interrupted(reader, **options))

    async def _interrupted(self, reader: Reader, *, on_message: OnMessage, **options: Any) -> int:
        taken = 0

        def counted(*message: Any) -> None:
            nonlocal taken
            on_message(*message)
            taken += 1
            if not self.happened.is_set():
                self.reached = message[0]
                if taken == self._after:
                    self._cut()

        if not self._after and not self.happened.is_set():
            self._cut()
        return await self._read(reader, on_message=counted, **options)

    def _cut(self) -> None:
        self._route.refusing = True
        self._route.cut()
        self._server.kill()
        self.happened.set()

    async def over(self, meanwhile: Callable[[], Awaitable[object]] | None = None, *, for_s: float = 0.0) -> None:
        """Wait for it, start the broker again after `for_s` seconds, do something, and let gateways back in."""
        await self.happened.wait()
        back_at = time.monotonic() + for_s
        while time.monotonic() < back_at:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self._server.start)
        if meanwhile is not None:
            await meanwhile()
        self._route.refusing = False


async def start_interrupted(
    stack: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
    server: NatsServer,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
    *,
    after: int = 100,
    for_s: float = 0.0,
    history_s: float = 60.0,
) -> tuple[Ear, Interruption]:
    """Start a gateway's intake whose first read of the history is interrupted."""
    route = await stack.enter_async_context(Proxy(server.port).running())
    interruption = Interruption(monkeypatch, server, route, after=after)
    over = asyncio.create_task(interruption.over(meanwhile, for_s=for_s))
    at = At(f"nats://127.0.0.1:{route.port}", server.passwords)
    ear = await stack.enter_async_context(listening(at, history_s=history_s))
    await over
    return ear, interruption


@pytest.mark.parametrize("after", [0, 1, 100], ids=["before it", "at the first", "in the middle"])
async def test_first_read_interrupted_for_long_continues_where_it_was(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    async with AsyncExitStack() as stack:
        async with connected(stream, "publisher") as nc:
            end = await pour(nc, 1_200)
        ear, interruption = await start_interrupted(stack, monkeypatch, stream, after=after, for_s=5.0, history_s=4.0)
        nc = await stack.enter_async_context(connected(stream, "publisher"))
        last = await publish(nc, 3)
        await ear.reach(last)

    if after:
        assert interruption.reached < end
        assert ear.offsets[0] < interruption.reached + 1
    ear.assert_no_silent_jump()
    assert (len(ear.epochs), ear.gaps) == (1, [])


async def test_retention_during_an_interrupted_first_read_is_reported_as_a_gap(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take() -> None:
        await call_api(stream, "STREAM.PURGE.EVENTS", {"seq": kept})

    async with AsyncExitStack() as stack:
        async with connected(stream, "publisher") as nc:
            end = await pour(nc, 1_200)
        kept = end - 20
        ear, interruption = await start_interrupted(stack, monkeypatch, stream, take)

    assert interruption.reached < kept - 1
    assert ear.gaps == [kept - 1]
    ear.assert_no_silent_jump()


async def test_stream_recreated_during_the_first_read_is_read_from_its_own_start(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recreate() -> None:
        await call_api(stream, "STREAM.DELETE.EVENTS")
        await declare(stream)

    async with AsyncExitStack() as stack:
        async with connected(stream, "publisher") as nc:
            end = await pour(nc, 1_200)
        ear, _ = await start_interrupted(stack, monkeypatch, stream, recreate)
        nc = await stack.enter_async_context(connected(stream, "publisher"))
        last = await publish(nc, 3)
        await ear.reach(last)

    assert last < end
    assert [kind for kind, _ in ear.story].count("epoch") == len({epoch for epoch, _ in ear.epochs}) == 2
    ear.assert_no_silent_jump()


async def test_end_of_one_stream_is_never_used_with_the_epoch_of_the_next(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway would drop messages below that end."""
    find_end = Reader.find_end
    ticks = 0

    async def tick_then_recreate(reader: Reader) -> int | None:
        nonlocal ticks
        ticks += 1
        end = await find_end(reader)
        if ticks == 2:  # the first one finds the new epoch, the second one is to find where that stream ends
            await call_api(stream, "STREAM.DELETE.EVENTS")
            await declare(stream)
        return end

    async with (
        listening(stream) as ear,
        connected(stream, "publisher") as nc,
        connected(stream, "setup") as setup,
    ):
        await ear.reach(await publish(nc, 30))
        monkeypatch.setattr(Reader, "find_end", tick_then_recreate)
        _, renewed = await broker.renew_epoch(setup)
        while not ear.epochs or ear.epochs[-1][0] in (ear.epochs[0][0], renewed):
            await asyncio.sleep(0.01)
        await ear.reach(await publish(nc, 3, prefix="new"))

    epoch = ear.epochs[-1][0]
    assert [position for one, position in ear.epochs if one == epoch and position > 20] == []
    ear.assert_no_silent_jump()


async def resumed(stack: AsyncExitStack, gateway: Gateway, cursor: str) -> SocketClient:
    """A viewer that comes back with its cursor, as soon as auth has found the broker again."""
    while True:
        client = await stack.enter_async_context(open_socket(gateway.url))
        with suppress(Closed):
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
            return client


async def test_clients_resume_completely_at_a_gateway_whose_start_was_interrupted(
    stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        async with running_gateway(stream, auth) as before, open_socket(before.url) as client:
            cursor = (await client.connect(auth.token("viewer"), ["campaign:c1"]))["cursor"]
            missed = [await before.publish(settlement(f"s{n}", "c1", "x" * 4_000)) for n in range(600)]
        route = await stack.enter_async_context(Proxy(stream.port).running())
        interruption = Interruption(monkeypatch, stream, route, after=100)
        over = asyncio.create_task(interruption.over(for_s=5.0))
        gateway = await stack.enter_async_context(
            running_gateway(At(f"nats://127.0.0.1:{route.port}", stream.passwords), auth, ring_age_s=4)  # type: ignore[arg-type]
        )
        await over
        back = await resumed(stack, gateway, cursor)
        heard = [event["offset"] for event in await back.events(len(missed))]

    assert interruption.reached < missed[-1]
    assert heard == missed


NO_PROBES_S = 3600.0
"""So long that a gateway looks at the stream only if it hears a message, or if the test makes it look."""


def before_state(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]]) -> None:
    """Run `happens` once, right before a gateway asks where the stream starts."""
    real, left = broker.stream_state, [happens]

    async def state(nc: Client) -> broker.StreamState:
        if left:
            await left.pop()()
        return await real(nc)

    monkeypatch.setattr(broker, "stream_state", state)


async def lose_many(ear: Ear, stack: AsyncExitStack, stream: NatsServer, count: int) -> tuple[Client, int]:
    """Make the live path lose `count` messages. A publisher, and the offset of the first of them."""
    nc = await stack.enter_async_context(connected(stream, "publisher"))
    await ear.reach(await publish(nc, 1, prefix="before"))
    first = ear.intake.position + 1
    ear.deaf = lambda offset: offset < first + count
    return nc, first


async def test_retention_between_the_streams_state_and_the_read_is_reported(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(stream, silence_s=NO_PROBES_S) as ear, AsyncExitStack() as stack:
        nc, first = await lose_many(ear, stack, stream, 100)
        while_reading(monkeypatch, lambda: call_api(stream, "STREAM.PURGE.EVENTS", {"seq": first + 40}))
        end = await publish(nc, 110)
        await ear.reach(end)

    assert ear.gaps == [first + 39]
    ear.assert_no_silent_jump()


async def test_resync_comes_before_the_events_held_behind_a_hole_taken_by_retention(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(stream, silence_s=NO_PROBES_S) as ear, AsyncExitStack() as stack:
        nc, first = await lose_many(ear, stack, stream, 4)
        before_state(monkeypatch, lambda: call_api(stream, "STREAM.PURGE.EVENTS", {"seq": first + 4}))
        end = await publish(nc, 8)
        await ear.reach(end)

    assert ear.gaps == [first + 3]
    ear.assert_no_silent_jump()


async def test_client_gets_resync_and_then_the_held_events_after_its_cursor(
    stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = [False]
    hear = intake_module.Intake._hear

    def lossy(intake: intake_module.Intake, *message: Any) -> None:
        if not deaf[0]:
            hear(intake, *message)

    monkeypatch.setattr(intake_module.Intake, "_hear", lossy)
    async with (
        running_gateway(stream, auth, Tuning(silence_s=NO_PROBES_S)) as gateway,
        open_socket(gateway.url) as client,
    ):
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        deaf[0] = True
        lost = await gateway.publish(settlement("lost"))
        deaf[0] = False
        before_state(monkeypatch, lambda: call_api(stream, "STREAM.PURGE.EVENTS", {"seq": lost + 1}))
        kept = await gateway.publish(settlement("kept"))
        first = await client.next("resync", "event")
        second = await client.next("resync", "event")

    assert (first["type"], first["reason"]) == ("resync", "not_resumable")
    assert cursor_of(first["cursor"]).offset < kept
    assert second["offset"] == kept


async def test_each_jump_of_retention_in_a_tiny_stream_is_reported(stream: NatsServer) -> None:
    async with connected(stream, "setup") as setup:
        state = await broker.stream_state(setup)
    small = broker.stream_config(replicas=1, epoch=state.epoch, max_bytes=400_000)
    await call_api(stream, "STREAM.UPDATE.EVENTS", small)
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.deaf = lambda offset: offset % 400 < 150
        for round_ in range(6):
            end = await pour(nc, 400, prefix=f"{round_}-")
        await ear.reach(end)

    ear.assert_no_silent_jump()


@pytest.mark.parametrize("subject", ["campaign.c1.settlement.s1", "campaign.c1.>"])
async def test_events_purged_by_subject_before_they_were_heard_are_reported(stream: NatsServer, subject: str) -> None:
    async with (
        Proxy(stream.port).running() as route,
        connected(stream, "publisher") as nc,
        listening(At(f"nats://127.0.0.1:{route.port}", stream.passwords)) as ear,
    ):
        await ear.reach(await publish(nc, 2, prefix="before"))
        with route.cut_off():
            for number in range(5):
                await publish(nc, 2, prefix=f"{number}-")
                other = await broker.publish(nc, "campaign.c2.settlement.s1", b"{}", message_id=f"other{number}")
            await call_api(stream, "STREAM.PURGE.EVENTS", {"filter": subject})
        await ear.reach(other)

    assert ear.gaps
    ear.assert_no_silent_jump()


@pytest.mark.parametrize("which", [(0,), (3,), (99,), (3, 50)], ids=["first", "one", "last", "two"])
async def test_single_events_deleted_before_they_were_heard_are_reported(
    stream: NatsServer, which: tuple[int, ...]
) -> None:
    async with listening(stream, silence_s=NO_PROBES_S) as ear, AsyncExitStack() as stack:
        nc, first = await lose_many(ear, stack, stream, 10**6)
        end = await publish(nc, 100)
        for number in which:
            await call_api(stream, "STREAM.MSG.DELETE.EVENTS", {"seq": first + number})
        ear.intake.reconnected()
        await ear.reach(end)

    assert ear.gaps == [first + which[-1]]
    ear.assert_no_silent_jump()


async def test_gateway_that_starts_after_an_erasure_reports_it_to_clients_that_were_away(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth) as gateway, open_socket(gateway.url) as client:
        cursor = (await client.connect(auth.token("viewer"), ["campaign:c1"]))["cursor"]
        await gateway.publish(settlement("kept"))
        erased = await gateway.publish(settlement("erased"))
        await gateway.publish(settlement("later"))
    await call_api(stream, "STREAM.MSG.DELETE.EVENTS", {"seq": erased})
    async with running_gateway(stream, auth) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        told = await client.next("resync", "event")
        await fence(gateway, client)

    assert (told["type"], told.get("reason")) == ("resync", "not_resumable")


async def test_ticks_that_expired_while_the_gateway_was_cut_off_are_no_gap(stream: NatsServer) -> None:
    async with (
        Proxy(stream.port).running() as route,
        connected(stream, "publisher") as nc,
        listening(At(f"nats://127.0.0.1:{route.port}", stream.passwords), young_s=0.0) as ear,
    ):
        await ear.reach(await publish(nc, 2, prefix="before"))
        with route.cut_off():
            for number in range(60):
                await publish(nc, 1, prefix=f"{number}-")
                await broker.publish(nc, broker.TICK, b"", message_id=f"tick{number}")
            await call_api(stream, "STREAM.PURGE.EVENTS", {"filter": broker.TICK})
        last = await publish(nc, 1, prefix="last")
        await ear.reach(last)

    assert ear.gaps == []
    assert [subject for subject in ear.subjects.values() if subject != broker.TICK][-61:] == [
        *["campaign.c1.settlement.s0"] * 61
    ]


@pytest.mark.parametrize("letters", CUT_LETTERS.values(), ids=CUT_LETTERS)
async def test_message_with_a_subject_that_is_not_utf8_is_the_same_after_a_broker_restart(
    stream: NatsServer, letters: bytes
) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        await ear.reach(await publish(nc, 1))
        await nc._send_command(b"PUB campaign.c1.settlement.%s 2\r\n{}\r\n" % letters)
        await nc.flush()
        while letters.decode(errors="replace") not in ear.subjects[ear.offsets[-1]]:  # then it is the last one heard
            await ear.reach(ear.intake.position + 1)
        stream.kill()
        await asyncio.to_thread(stream.start)
        await ear.reach(await publish(nc, 3, prefix="after"))

    assert (len(ear.epochs), ear.gaps) == (1, [])
    ear.assert_no_silent_jump()


@pytest.mark.parametrize("letters", CUT_LETTERS.values(), ids=CUT_LETTERS)
async def test_subject_that_is_not_utf8_is_the_same_heard_and_read(stream: NatsServer, letters: bytes) -> None:
    async with listening(stream) as ear, AsyncExitStack() as stack:
        nc, first = await lose_many(ear, stack, stream, 1)
        await nc._send_command(b"PUB campaign.c1.settlement.%s 2\r\n{}\r\n" % letters)
        await nc.flush()
        await ear.reach(await publish(nc, 3, prefix="after"))

    assert ear.subjects[first] == b"campaign.c1.settlement.%s".replace(b"%s", letters).decode(errors="replace")
    ear.assert_no_silent_jump()


@pytest.mark.parametrize("how", ["purge of a subject", "deletion"])
async def test_client_that_resumes_from_the_stream_is_told_of_erased_events(
    stream: NatsServer, auth: FakeAuth, how: str
) -> None:
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:
        cursor = await cursor_now(gateway)
        for number in range(3):
            await gateway.publish(settlement("kept"))
            erased = await gateway.publish(settlement(f"erased{number}"))
        await push_out(gateway)
        if how == "deletion":
            await call_api(stream, "STREAM.MSG.DELETE.EVENTS", {"seq": erased})
        else:
            await call_api(stream, "STREAM.PURGE.EVENTS", {"filter": "campaign.c1.settlement.erased1"})
        async with open_socket(gateway.url) as client, open_socket(gateway.url) as restoring:
            await client.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
            told = await client.next("resync", "event")
            await fence(gateway, client)
            await restoring.connect(auth.token("owner"))
            answer = await restoring.ask("subscribe", rooms=["campaign:c1"], cursor=cursor)

    assert (told["type"], told.get("reason")) == ("resync", "not_resumable")
    assert answer["rooms"]["campaign:c1"] == {"success": True, "recovered": False}


async def test_deletion_of_an_invalid_message_causes_no_resync(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:
        cursor = await cursor_now(gateway)
        kept = await gateway.publish(settlement("kept"))
        await raw_publish(gateway, "campaign.c1.settlement.s1", b"garbage")
        await raw_publish(gateway, "campaign.c1.settlement.s1", b"{}", {"Nats-TTL": "60s"})
        async with open_socket(gateway.url) as reader:  # reads events that no session was there for
            await reader.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
            await reader.events(1)
        last = (await push_out(gateway))[-1]
        for offset in (kept + 1, kept + 2):
            await call_api(stream, "STREAM.MSG.DELETE.EVENTS", {"seq": offset})
        async with open_socket(gateway.url) as client:
            await client.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
            heard = [event["offset"] for event in await client.events(21)]

    assert (heard[0], heard[-1]) == (kept, last)
    assert "resync" not in [frame["type"] for frame in client.frames]


async def test_erased_event_leaves_the_gateways_memory_with_the_rings_age_in_a_quiet_stream(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth, ring_age_s=1) as gateway:
        cursor = await cursor_now(gateway)
        erased = await gateway.publish(settlement("erased"))
        await call_api(stream, "STREAM.MSG.DELETE.EVENTS", {"seq": erased})
        async with asyncio.timeout(15):
            for is_remembered in (True, False):  # the figure is a second behind
                while ("\nbeaconfire_gateway_ring_bytes 0.0" in await gateway.metrics()) is is_remembered:
                    await asyncio.sleep(0.05)
        async with open_socket(gateway.url) as client:
            await client.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
            told = await client.next("resync", "event")
            (event,) = await fence(gateway, client)

    assert (told["type"], told.get("reason")) == ("resync", "not_resumable")
    assert event["offset"] > erased

"""Whatever a publisher puts into the stream, every consumer passes it and handles the good event behind it."""

import asyncio
import contextlib
import functools
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire import deadletters, listening
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker, lookup
from beaconfire_kit.authorization import AuthorizeRequest
from beaconfire_kit.broker import STREAM
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import EntityUpdated
from tests.asking import authorize
from tests.auth.conftest import running_auth, table
from tests.client import open_socket
from tests.conftest import broker_settings, connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.publisher.workers import cause, working
from tests.security.bad_messages import BAD, Bad
from tests.security.raw_nats import RawNats, raw_nats

PATIENCE_S = 20.0
SETTLEMENT, CAMPAIGN = b"campaign.c1.settlement.", b"campaign.c1.campaign."


async def spoil(rogue: RawNats, bad: Bad, prefix: bytes = SETTLEMENT) -> None:
    """Publish a bad message. The broker may refuse some of them; it took the connection's next one, in any case."""
    await rogue.publish(prefix + bad.tail, bad.body, block=bad.block)


async def test_broker_stores_every_bad_message_of_the_table(stream: NatsServer) -> None:
    """Otherwise the table would be of no use."""
    async with raw_nats(stream, "publisher") as rogue, connected(stream, "operator") as operator:

        async def is_stored(count: int) -> bool:
            answer = await operator.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=5)
            return bool(json.loads(answer.data)["state"]["messages"] == count)

        for number, bad in enumerate(BAD):
            await spoil(rogue, bad)
            await until(functools.partial(is_stored, number + 3), bad)  # the first are the anchor and a marker

    assert len(BAD) >= 40


async def until(holds: Callable[[], Awaitable[bool]], bad: Bad) -> None:
    """Wait until it holds, and name the message after which it did not."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"nothing goes on behind {bad}")


async def test_workers_go_on_behind_every_bad_message(stream: NatsServer, tmp_path: Path) -> None:
    """The rules engine and the scheduler react to each good event behind one."""
    for job, prefix in (("rules-engine", SETTLEMENT), ("scheduler", CAMPAIGN)):
        told = 'beaconfire_rules_engine_events_total{result="published"}'
        passed = (
            "beaconfire_scheduler_invalid_messages_total"
            if prefix is CAMPAIGN
            else 'beaconfire_rules_engine_events_total{result="invalid"}'
        )
        async with (
            working(stream, tmp_path, job) as worker,
            raw_nats(stream, "publisher") as rogue,
            connected(stream, "publisher") as nc,
            connected(stream, "operator") as operator,
        ):
            await worker.says("ready")
            before = await worker.counts(told)
            for number, bad in enumerate(BAD):
                await spoil(rogue, bad, prefix)
                offset = await _publish(nc, settlement(f"good-{number}") if prefix is SETTLEMENT else _clock_set())
                await until(functools.partial(_has_acknowledged, operator, job, offset), bad)
            assert prefix is not SETTLEMENT or await worker.counts(told) >= before + len(BAD)
            assert await worker.counts(passed) > len(BAD) / 3  # others name no type that the worker knows
            await worker.says("ready")


async def _has_acknowledged(operator: Client, consumer: str, offset: int) -> bool:
    listed = json.loads((await operator.request(f"$JS.API.CONSUMER.LIST.{STREAM}", b"", timeout=5)).data)
    return any(one["name"] == consumer and one["ack_floor"]["stream_seq"] >= offset for one in listed["consumers"])


def _clock_set() -> EntityUpdated:
    return EntityUpdated(
        campaign_id="c1", entity_type="campaign", entity_id="c1", operation="update", changed_fields=("clock",)
    )


async def test_auth_learns_the_room_of_the_event_behind_every_bad_message(stream: NatsServer, tmp_path: Path) -> None:
    async with (
        running_auth(stream, tmp_path) as auth,
        table(auth, stream) as made,
        raw_nats(stream, "publisher") as rogue,
    ):
        viewer = made.people["viewer"].id
        for number, bad in enumerate(BAD):
            await spoil(rogue, bad)
            event = settlement(f"good-{number}")
            offset = await _publish(made.nc, event)
            question = AuthorizeRequest(user_id=viewer, rooms=(f"settlement:good-{number}",), after=offset)
            await until(functools.partial(_is_allowed, made.nc, question), bad)


async def _is_allowed(nc: Client, question: AuthorizeRequest) -> bool:
    return (await authorize(nc, question)).rooms[question.rooms[0]].allowed


async def test_relay_finds_its_event_behind_every_bad_message_on_its_subject(stream: NatsServer) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    async with raw_nats(stream, "publisher") as rogue, connected(stream, "publisher") as nc:
        for number, bad in enumerate(BAD):
            await spoil(rogue, bad)
            subject = "campaign.c1.settlement.bad"
            offset = await broker.publish(nc, subject, b"{}", message_id=f"good-{number}")
            async with asyncio.timeout(PATIENCE_S):
                found = await lookup.find(nc, "publisher", [subject], since=since)
            assert found.get(f"good-{number}") == offset, bad
    assert found["one"]
    assert "two" not in found, "of two ids the broker takes the first"


class _Token:
    can_renew = False

    def __init__(self, text: str) -> None:
        self._text = text

    def fresh(self) -> str:
        return self._text


@contextlib.asynccontextmanager
async def _listening(url: str, token: str, printer: Callable[[dict[str, Any]], None]) -> AsyncIterator[None]:
    task = asyncio.create_task(listening.listen(url, ["campaign:c1"], _Token(token), printer))  # type: ignore[arg-type]
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()


async def test_clients_hear_the_event_behind_every_bad_message_which_is_set_aside(stream: NatsServer) -> None:
    """Live at a socket, in `beaconfire listen`, and when resuming."""
    fake = FakeAuth()
    fake.members = {"viewer": {"campaign:c1": "viewer"}}
    heard: set[str] = set()

    async def has_heard(event_id: str) -> bool:
        return event_id in heard

    shown = io.StringIO()

    def printer(frame: dict[str, Any]) -> None:
        with contextlib.redirect_stdout(shown):
            listening.print_readable(frame)
            listening.print_json(frame)
        heard.add(frame["event"]["id"])

    async with (
        fake.running(stream),
        running_gateway(stream, fake) as gateway,
        raw_nats(stream, "publisher") as rogue,
        connected(stream, "publisher") as nc,
        open_socket(gateway.url) as client,
        _listening(gateway.url, fake.token("viewer"), printer),
    ):
        ack = await client.connect(fake.token("viewer"), ["campaign:c1"])
        while not heard:  # until `listen` has joined the room, too
            last = await cause(nc, settlement("first"))
            while (await client.next("event"))["event"]["id"] != last.id:
                pass
        for bad in BAD:
            await spoil(rogue, bad)
            await rogue.publish(b"ephemeral.campaign.c1." + bad.tail, bad.body, block=bad.block)
            last = good = await cause(nc, settlement("good"))
            while (await client.next("event"))["event"]["id"] != good.id:
                pass
            await until(functools.partial(has_heard, good.id), bad)
        async with open_socket(gateway.url) as back:
            await back.connect(fake.token("viewer"), ["campaign:c1"], cursor=ack["cursor"])
            while (await back.next("event"))["event"]["id"] != last.id:
                pass
    listened = shown.getvalue()
    letters: list[deadletters.Letter] = []
    await deadletters.read(broker_settings(stream, "operator"), letters.append, last=1_000, reason=None, follow=False)
    with contextlib.redirect_stdout(shown):
        for letter in letters:
            deadletters.print_readable(letter)
            deadletters.print_json(letter)

    stored = {letter.subject for letter in letters if letter.offset is not None}
    assert len([letter for letter in letters if letter.offset is not None]) > len(BAD) / 2
    assert "campaign.c1.settlement.\ufffd" in stored
    assert "Infinity" not in listened
    assert "\x1b" not in shown.getvalue()


async def _publish(nc: Client, event: Event) -> int:
    one = Envelope(event, Metadata(source="api"))
    return await broker.publish(nc, one.subject, one.encode(), message_id=one.id)

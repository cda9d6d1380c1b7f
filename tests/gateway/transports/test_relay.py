"""Gateway processes ask one another over a real broker, with the permissions of gateways."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.relay import FOREIGN, MAX_BYTES, OwnerGone, Question, Relay
from beaconfire_kit import broker
from beaconfire_kit.broker import STREAM
from beaconfire_kit.seams.nats_direct import DirectClient
from tests.conftest import At, Broker, broker_settings, connected
from tests.gateway.core import spawning
from tests.proxy import Proxy
from tests.security.raw_nats import raw_nats

LONG_S = 300.0
"""A timeout that no test reaches."""
ASKER, OWNER = "a" * 16, "b" * 16


@asynccontextmanager
async def relaying(server: Broker, process_id: str) -> AsyncIterator[Relay]:
    """A gateway process's relay, on its own connection to the broker."""
    client = DirectClient()
    relay = Relay(client, process_id, spawn=spawning(asyncio.get_running_loop()))

    async def reconnected() -> None:
        relay.reconnected()

    await broker.connect(
        broker_settings(server, "gateway"),
        "test-relay",
        client=client,
        on_closed=lambda: pytest.fail("the broker connection was closed for good"),
        on_reconnected=reconnected,
    )
    await relay.subscribe()
    await client.flush()
    watching = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
        await broker.close(client)


class Waiting:
    """A handler that leaves its questions open, so that a test answers them."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[Question] = asyncio.Queue()
        self.abandoned = asyncio.Event()

    def __call__(self, question: Question) -> None:
        question.on_abandoned = self.abandoned.set
        self.questions.put_nowait(question)


async def test_owner_answers_at_once_or_later_and_many_questions_are_open_at_a_time(stream: NatsServer) -> None:
    """Answers may come in another order than their questions."""
    waiting = Waiting()
    async with relaying(stream, ASKER) as asker, relaying(stream, OWNER) as owner:
        owner.answers("poll", waiting)
        owner.answers("send", lambda question: question.answer(question.body[::-1]))
        polls = [asyncio.create_task(asker.ask(OWNER, "poll", b"%d" % n, timeout_s=LONG_S)) for n in range(100)]
        questions = [await waiting.questions.get() for _ in polls]
        at_once = await asker.ask(OWNER, "send", b"abc", timeout_s=LONG_S)
        for question in reversed(questions):
            question.answer(b"answer " + question.body)
        answers = await asyncio.gather(*polls)

    assert at_once == b"cba"
    assert answers == [b"answer %d" % n for n in range(100)]


async def test_question_to_a_process_that_does_not_exist_fails_at_once(stream: NatsServer) -> None:
    """The broker says that no process subscribes to its subject."""
    async with relaying(stream, ASKER) as asker:
        with pytest.raises(OwnerGone, match="no such process"):
            await asker.ask(OWNER, "poll", b"", timeout_s=LONG_S)


async def test_open_questions_fail_when_their_owner_is_gone(stream: NatsServer) -> None:
    """The asker notices by asking whether the owner is alive."""
    waiting = Waiting()
    async with relaying(stream, ASKER) as asker:
        async with relaying(stream, OWNER) as owner:
            owner.answers("poll", waiting)
            poll = asyncio.create_task(asker.ask(OWNER, "poll", b"", timeout_s=LONG_S))
            await waiting.questions.get()
        with pytest.raises(OwnerGone, match="no such process"):
            await poll


async def test_open_questions_fail_when_their_owner_is_frozen(stream: NatsServer) -> None:
    """An owner that hears nothing any more still has its subscription at the broker."""
    waiting = Waiting()
    port = urlsplit(stream.url).port
    assert port is not None
    async with (
        relaying(stream, ASKER) as asker,
        Proxy(port).running() as proxy,
        relaying(At(f"nats://127.0.0.1:{proxy.port}", stream.passwords), OWNER) as owner,
    ):
        owner.answers("poll", waiting)
        poll = asyncio.create_task(asker.ask(OWNER, "poll", b"", timeout_s=LONG_S))
        await waiting.questions.get()
        proxy.flowing.clear()
        with pytest.raises(OwnerGone, match="no answer within"):
            await poll
        proxy.flowing.set()


async def test_open_questions_fail_when_the_asker_has_lost_the_broker_for_a_moment(stream: NatsServer) -> None:
    """Their answers may be lost with the connection."""
    waiting = Waiting()
    port = urlsplit(stream.url).port
    assert port is not None
    async with (
        relaying(stream, OWNER) as owner,
        Proxy(port).running() as proxy,
        relaying(At(f"nats://127.0.0.1:{proxy.port}", stream.passwords), ASKER) as asker,
    ):
        owner.answers("poll", waiting)
        poll = asyncio.create_task(asker.ask(OWNER, "poll", b"", timeout_s=LONG_S))
        question = await waiting.questions.get()
        with proxy.cut_off():
            question.answer(b"lost")
        with pytest.raises(OwnerGone):
            await poll


async def test_owner_learns_that_a_question_is_abandoned(stream: NatsServer) -> None:
    """The client of a relayed poll has closed its connection."""
    waiting = Waiting()
    async with relaying(stream, ASKER) as asker, relaying(stream, OWNER) as owner:
        owner.answers("poll", waiting)
        poll = asyncio.create_task(asker.ask(OWNER, "poll", b"", timeout_s=LONG_S))
        await waiting.questions.get()
        poll.cancel()
        await waiting.abandoned.wait()

    assert poll.cancelled()


async def test_failure_and_oversized_answer_of_an_owner_reach_the_asker_as_a_failure(stream: NatsServer) -> None:
    """No question waits for its timeout because of a fault of the owner."""

    def fail(_question: Question) -> None:
        raise RuntimeError("a bug of ours")

    async with relaying(stream, ASKER) as asker, relaying(stream, OWNER) as owner:
        owner.answers("fail", fail)
        owner.answers("overflow", lambda question: question.answer(b"x" * (MAX_BYTES + 1)))
        owner.answers("fill", lambda question: question.answer(b"x" * MAX_BYTES))
        for call in ("fail", "overflow", "of-a-later-version"):
            with pytest.raises(OwnerGone, match="could not answer"):
                await asker.ask(OWNER, call, b"", timeout_s=LONG_S)
        full = await asker.ask(OWNER, "fill", b"", timeout_s=LONG_S)

    assert len(full) == MAX_BYTES


async def test_messages_that_no_gateway_sent_reach_no_handler_and_no_answer_leaves(stream: NatsServer) -> None:
    """T11: other users may have the broker write to any subject, but its own texts alone, with no reply to us."""
    heard = Waiting()
    address = f"{broker.GATEWAY_PREFIX}{OWNER}.ask.poll"
    before = FOREIGN._value.get()
    async with relaying(stream, OWNER) as owner, raw_nats(stream, "publisher") as rogue:
        owner.answers("poll", heard)
        refused = await rogue.publish(address, b"sid", reply="_INBOX_publisher.x")
        listening = await rogue.subscribe(f"{broker.GATEWAY_PREFIX}>")
        await rogue.publish("campaign.c1.settlement.s1", b"{}", reply=address)
        await _deliver_stored_messages_to(stream, address)
        async with connected(stream, "gateway") as careless:
            await careless.publish(address, b"sid", reply="live.campaign.c1.settlement.fake")
            await careless.flush()
        while FOREIGN._value.get() < before + 3:
            await asyncio.sleep(0)

    assert re.search("Permissions Violation", refused)
    assert re.search("Permissions Violation", listening)
    assert heard.questions.empty()


async def _deliver_stored_messages_to(server: NatsServer, subject: str) -> None:
    """Have the broker deliver a stored event to a subject, as the answer to a pull."""
    config = {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "filter_subject": "campaign.>"}
    create = {"stream_name": STREAM, "config": config}
    async with connected(server, "setup") as setup:
        answer = await setup.request(f"$JS.API.CONSUMER.CREATE.{STREAM}.rogue.campaign.>", json.dumps(create).encode())
        await setup.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.rogue", b"1", reply=subject)
        await setup.flush()
    assert "error" not in json.loads(answer.data)

"""Engine.IO over polling: one process, and two that share a client as behind a load balancer without affinity."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.socketio.polling_carrier import FULL_BYTES, MAX_KEPT_BYTES, POSTS_PER_MINUTE
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.core import deliver
from tests.gateway.engine_processes import EngineProcess, PollingClient, engine_process, polling_client
from tests.gateway.engines import WordsConnection

UNKNOWN = {"code": 1, "message": "Session ID unknown"}


@pytest.fixture(name="processes", params=[1, 2], ids=["one process", "two processes"])
async def _processes(request: pytest.FixtureRequest, stream: NatsServer) -> AsyncIterator[list[EngineProcess]]:
    """The processes that a client's requests go to in turn."""
    async with AsyncExitStack() as stack:
        limits = Limits(heartbeat_s=2)
        yield [await stack.enter_async_context(engine_process(stream, limits)) for _ in range(request.param)]


@pytest.fixture(name="client")
async def _client(processes: list[EngineProcess]) -> AsyncIterator[PollingClient]:
    """A client that has a connection."""
    async with polling_client(*processes) as client:
        await client.open()
        yield client


def owner(processes: list[EngineProcess], client: PollingClient) -> EngineProcess:
    """The process that has the client's connection."""
    return next(one for one in processes if one.carriers.get(client.sid) is not None)


async def polled(
    processes: list[EngineProcess], client: PollingClient, **query: str
) -> "asyncio.Task[tuple[int, str]]":
    """A poll that has reached the process that owns it, and waits there."""
    carrier = owner(processes, client).carrier(client.sid)
    poll = asyncio.create_task(client.get())
    while not carrier.is_polled and not poll.done():
        await asyncio.sleep(0)
    return poll


async def is_unknown(client: PollingClient, times: int = 2) -> bool:
    """Whether no process knows the client's connection any more."""
    answers = [await client.get() for _ in range(times)] + [await client.post("3") for _ in range(times)]
    return all(status == 400 and json.loads(body) == UNKNOWN for status, body in answers)


async def test_open_packet_names_the_process_the_upgrade_and_the_limits(processes: list[EngineProcess]) -> None:
    """It is the answer to the first poll."""
    async with polling_client(*processes) as client:
        packet = await client.open()

    opened = json.loads(packet[1:])
    assert packet[0] == "0"
    assert opened["sid"].startswith(processes[0].core.process_id + ".")
    assert opened["upgrades"] == ["websocket"]
    assert (opened["pingInterval"], opened["pingTimeout"], opened["maxPayload"]) == (2000, 2000, 16_384)


async def test_messages_come_back_in_order_whichever_process_gets_the_requests(client: PollingClient) -> None:
    """Text of several alphabets, and several packets in one payload."""
    assert await client.post("4hello\x1e4utf8 — éàü 漢字 🎲") == (200, "ok")
    assert await client.get() == (200, "4hello\x1e4utf8 — éàü 漢字 🎲")
    for number in range(10):
        assert await client.post(f"4{number}") == (200, "ok")
    assert (await client.get())[1].split("\x1e") == [f"4{number}" for number in range(10)]


async def test_binary_message_travels_in_base64(client: PollingClient) -> None:
    """In both directions."""
    assert await client.post("4text\x1ebAQIDBA==") == (200, "ok")
    assert await client.get() == (200, "4text\x1ebAQIDBA==")


async def test_waiting_poll_is_answered_when_something_comes(
    processes: list[EngineProcess], client: PollingClient
) -> None:
    """All that is written in one turn of the loop is one answer."""
    poll = await polled(processes, client)
    assert await client.post("4a\x1e4b") == (200, "ok")

    assert await poll == (200, "4a\x1e4b")


async def test_client_is_pinged_through_its_polls_and_stays_while_it_answers(
    processes: list[EngineProcess], client: PollingClient
) -> None:
    """As over a WebSocket."""
    for _ in range(3):
        poll = await polled(processes, client)
        while not poll.done():
            owner(processes, client).turn()
            await asyncio.sleep(0.01)
        assert await poll == (200, "2")
        assert await client.post("3") == (200, "ok")


async def test_client_that_answers_no_ping_is_unknown_afterwards(
    processes: list[EngineProcess], client: PollingClient
) -> None:
    """Its connection leaves the door."""
    having = owner(processes, client)
    having.turn(10)

    assert await is_unknown(client)
    assert not having.core.door.addresses


@pytest.mark.parametrize("payload", ["abc", "", "7", "2", "0{}", "4a\x1e", "b!", b"4\xff"], ids=repr)
async def test_invalid_payload_gets_400_and_ends_the_connection(client: PollingClient, payload: str | bytes) -> None:
    """Nothing of it is left."""
    status, body = await client.post(payload)

    assert (status, json.loads(body)["code"]) == (400, 3)
    assert await is_unknown(client)


async def test_payload_of_bytes_gets_400_and_ends_the_connection(processes: list[EngineProcess]) -> None:
    """Engine.IO 4 has no binary payloads."""
    async with polling_client(*processes) as client:
        await client.open()
        client.headers["Content-Type"] = "application/octet-stream"
        status, _ = await client.post("4a")
        client.headers.clear()

        assert status == 400
        assert await is_unknown(client)


async def test_oversized_payload_gets_413_and_the_connection_goes_on(client: PollingClient) -> None:
    """The open packet has announced the limit."""
    status, _ = await client.post("4" + "x" * 16_384)
    assert status == 413

    assert await client.post("4a") == (200, "ok")
    assert await client.get() == (200, "4a")


async def test_second_poll_at_a_time_ends_the_connection(processes: list[EngineProcess], client: PollingClient) -> None:
    """The first is answered with a close packet, the second with 400."""
    first = await polled(processes, client)
    status, _ = await client.get()

    assert status == 400
    assert await first == (200, "1")
    assert await is_unknown(client)


async def test_poll_that_a_proxy_repeats_ends_the_connection(client: PollingClient) -> None:
    """Its first answer may be lost, and later events would come without it."""
    await client.post("4a")
    assert await client.get(t="one") == (200, "4a")
    await client.post("4b")
    status, _ = await client.get(t="one")

    assert status == 400
    assert await is_unknown(client)


async def test_poll_whose_client_leaves_ends_the_connection(
    processes: list[EngineProcess], client: PollingClient
) -> None:
    """What was on its way may be lost."""
    having = owner(processes, client)
    poll = await polled(processes, client)
    poll.cancel()
    while having.core.door.addresses:
        await asyncio.sleep(0.01)

    assert await is_unknown(client)


async def test_process_that_stops_gives_back_the_polls_of_other_processes(stream: NatsServer) -> None:
    """Their clients poll again, and keep their connections. The process waits for these polls."""
    async with (
        engine_process(stream) as having,
        engine_process(stream) as stopping,
        polling_client(having, stopping) as client,
    ):
        await client.open()
        poll = await polled([having], client)
        assert not stopping.core.is_empty
        stopping.core.close_all(BeaconfireError(errors.UNAVAILABLE, "going away"))
        assert await poll == (200, "6")
        assert stopping.core.is_empty
        assert await client.post("4a") == (200, "ok")
        assert await client.get() == (200, "4a")


async def test_client_that_sends_close_gets_a_noop_and_is_gone(
    processes: list[EngineProcess], client: PollingClient
) -> None:
    """Its poll does not wait any longer."""
    having = owner(processes, client)
    poll = await polled(processes, client)
    assert await client.post("1") == (200, "ok")

    assert await poll == (200, "6")
    assert await is_unknown(client)
    assert not having.core.door.addresses


async def test_connection_that_the_gateway_ends_says_so_in_an_answer_of_its_own(
    processes: list[EngineProcess], client: PollingClient
) -> None:
    """It comes after everything that was written before.

    A client of `socket.io-client` that finds both in one answer has the events before it twice after a recovery.
    """
    having = owner(processes, client)
    await client.post("4last words")
    having.carrier(client.sid).engine.carrier.end()

    assert await client.get() == (200, "4last words")
    assert await client.get() == (200, "1")
    assert await is_unknown(client)


async def test_other_methods_and_sids_that_never_were_are_refused(processes: list[EngineProcess]) -> None:
    """With the codes of the protocol."""
    async with polling_client(*processes) as client:
        status, body = await client.post("4a")
        assert (status, json.loads(body)["code"]) == (400, 2)
        await client.open()
        status, body = await client.request("PUT", "4a")
        assert (status, json.loads(body)["code"]) == (400, 2)
        own = client.sid.partition(".")[0]
        for sid in (f"{own}.x", "0" * 16 + ".x", "x", "*.>", f"{own}.{'x' * 100}", "é\n", "\ud800"):
            client.sid = sid
            assert await is_unknown(client, times=1), sid


async def test_posts_beyond_the_rate_end_the_connection(client: PollingClient) -> None:
    """A request costs as much as a message."""
    statuses = [200]
    while statuses[-1] == 200 and len(statuses) < 2 * POSTS_PER_MINUTE:
        statuses.append((await client.post("3"))[0])

    assert statuses[-1] == 429
    assert len(statuses) > POSTS_PER_MINUTE
    assert await is_unknown(client)


async def test_client_that_asks_for_more_and_more_and_does_not_poll_is_ended(client: PollingClient) -> None:
    """The answers to its messages would fill the memory."""
    message = "4" + "x" * 16_000
    statuses = [200]
    while statuses[-1] == 200 and len(statuses) < 2 * MAX_KEPT_BYTES // len(message):
        statuses.append((await client.post(message))[0])

    assert statuses[-1] == 400
    assert await is_unknown(client)


async def test_client_that_does_not_poll_is_behind_and_catches_up_when_it_does(stream: NatsServer) -> None:
    """What waits for it is bounded, and it misses nothing."""
    total = 40
    async with engine_process(stream, None, WordsConnection) as process, polling_client(process) as client:
        core = process.core
        core.begin("e", 10)
        await client.open()
        await client.post("4connect a e:10 campaign:c1")
        assert (await client.get())[1].startswith("4connection.ack")
        carrier = process.carrier(client.sid)
        for offset in range(11, 11 + total):
            deliver(core, offset, b"x" * 8_000)
            await asyncio.sleep(0)
        assert carrier.engine.sessions[0].state is State.CATCHING_UP
        assert carrier.kept_bytes < FULL_BYTES + 10_000
        heard: list[int] = []
        while len(heard) < total:
            status, payload = await client.get()
            assert status == 200
            heard += [int(one[1:].split()[0]) for one in payload.split("\x1e") if one[1:2].isdigit()]

    assert heard == list(range(11, 11 + total))

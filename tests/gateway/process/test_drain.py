"""Draining (X4): a real process, with clients that leave, stay or are stuck, and a hung broker."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_demo.settings import PageSettings
from beaconfire_demo.site import write_site
from beaconfire_gateway.sessions.goaway import GoAways
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from tests.client import open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.gateway.processes import gateway_process
from tests.gateway.slow_clients import Stuck
from tests.websocket import client_frame, handshake

GRACE_S = 15
"""Beyond its window, a loaded machine may take this long to end a process. A process that hangs takes forever."""


async def figure(process: ServiceProcess, name: str) -> float:
    """The sum of a metric of this gateway."""
    async with aiohttp.ClientSession() as http, http.get(f"{process.ops_url}/metrics") as answer:
        text = await answer.text()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)", text, re.MULTILINE))


async def get_stuck(stream: NatsServer, process: ServiceProcess, auth: FakeAuth, count: int) -> list[Stuck]:
    """Connect clients of a room that read nothing while events pour in, until each one's socket is full.

    One more asks for files, and reads none, until no more are served.
    """
    hello = {"type": "connect", "id": 1, "token": auth.token("viewer"), "rooms": ["campaign:c1"]}
    stuck = [Stuck() for _ in range(count + 1)]
    for client in stuck:
        await client.open(process.url)
    for client in stuck[1:]:
        await client.send(handshake(process.url) + client_frame(json.dumps(hello).encode()))
    await stuck[0].send(b"GET /page/style.css HTTP/1.1\r\nHost: x\r\n\r\n" * 800)
    served = -1.0
    async with connected(stream, "publisher") as nc:
        while await figure(process, "beaconfire_gateway_slow_sessions_total") < count or served < (
            served := await figure(process, "beaconfire_http_request_duration_seconds_count")
        ):
            for _ in range(20):
                one = Envelope(settlement("s1", "c1", *["x" * 1000] * 60), Metadata(source="flood"))
                await nc.publish(one.subject, one.encode())
            await nc.flush()
    return stuck


@pytest.mark.parametrize("broker_hangs", [False, True])
async def test_draining_gateway_exits_with_0_by_its_deadline_despite_stuck_clients_and_a_hung_broker(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, broker_hangs: bool
) -> None:
    settings = {"BEACONFIRE_STOP_TIMEOUT_S": "1", "BEACONFIRE_MAX_BUFFER_BYTES": "16384"}
    write_site(tmp_path / "site", PageSettings())
    settings["BEACONFIRE_STATIC_DIR"] = str(tmp_path / "site")
    async with gateway_process(tmp_path, stream, auth, **settings) as process:
        stuck = await get_stuck(stream, process, auth, 5)
        if broker_hangs:
            stream.freeze()
        process.terminate()
        ended = await asyncio.to_thread(process.process.wait, 1 + GRACE_S)
        for client in stuck:
            client.close()

    assert ended
    assert process.process.exit_code == 0


async def test_draining_gateway_is_not_ready_sends_goaway_and_ends_at_a_second_sigterm(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        gateway_process(tmp_path, stream, auth, BEACONFIRE_STOP_TIMEOUT_S="300") as process,
        open_socket(process.url) as client,
    ):
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        process.terminate()
        told = await client.next("goaway")
        why_not = await asyncio.to_thread(process.why_not_ready)
        answer = await client.ask("ping")
        process.terminate()
        ended = await asyncio.to_thread(process.process.wait, GRACE_S)

    assert (told["afterMs"], told["withinMs"]) == (0, 300_000)
    assert why_not == "stopping"
    assert answer["success"] is True
    assert (ended, process.process.exit_code) == (True, -15)


async def test_draining_gateway_serves_new_clients_and_ends_when_all_have_left(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth
) -> None:
    """One client opened its socket before SIGTERM, one after, and one replaces its session.

    Each gets `goaway` for the second half of the window.
    """
    async with (
        gateway_process(tmp_path, stream, auth, BEACONFIRE_STOP_TIMEOUT_S="300") as process,
        AsyncExitStack() as stack,
        connected(stream, "publisher") as publisher,
    ):
        client, early = [await stack.enter_async_context(open_socket(process.url)) for _ in range(2)]
        ack = await client.connect(auth.token("viewer"), ["campaign:c1"])
        process.terminate()
        await client.next("goaway")
        late, again = [await stack.enter_async_context(open_socket(process.url)) for _ in range(2)]
        await early.connect(auth.token("viewer"), ["campaign:c1"])
        await late.connect(auth.token("owner"), ["campaign:c1"])
        await again.connect(auth.token("viewer"), ["campaign:c1"], cursor=ack["cursor"], replaces=ack["sessionId"])
        newcomers = (early, late, again)
        told = [await one.next("goaway") for one in newcomers]
        event = Envelope(settlement(), Metadata(source="api"))
        offset = await broker.publish(publisher, event.subject, event.encode(), message_id=event.id)
        heard = [(await one.next("event"))["offset"] for one in newcomers]
        why_not = await asyncio.to_thread(process.why_not_ready)
        async with aiohttp.ClientSession() as http, http.get(f"{process.url}/readyz") as answer:
            status = answer.status
        await stack.aclose()
        ended = await asyncio.to_thread(process.process.wait, GRACE_S)

    assert all(100_000 < one["afterMs"] < one["withinMs"] <= 300_000 for one in told)
    assert heard == [offset] * 3
    assert (why_not, status) == ("stopping", 503)
    assert (ended, process.process.exit_code) == (True, 0)


async def test_gateway_without_clients_accepts_new_ones_for_as_long_as_a_load_balancer_may_send_them(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth
) -> None:
    settings = {"BEACONFIRE_STOP_TIMEOUT_S": "300", "BEACONFIRE_STOP_ACCEPT_S": "300"}
    async with gateway_process(tmp_path, stream, auth, **settings) as process:
        process.terminate()
        while await asyncio.to_thread(process.why_not_ready) != "stopping":
            pass
        async with open_socket(process.url) as client:
            ack = await client.connect(auth.token("viewer"), ["campaign:c1"])
            told = await client.next("goaway")
        process.terminate()
        ended = await asyncio.to_thread(process.process.wait, GRACE_S)

    assert ack["rooms"]["campaign:c1"]["success"] is True
    assert told["withinMs"] > 0
    assert ended


async def test_clients_left_at_the_end_of_the_drain_are_closed_with_4503(stream: NatsServer, auth: FakeAuth) -> None:
    """Sockets that have not sent `connect` are closed with 4503, too."""
    running = running_gateway(stream, auth, stop_timeout_s=1)
    gateway = await running.__aenter__()
    async with open_socket(gateway.url) as stays, open_socket(gateway.url) as silent:
        await stays.connect(auth.token("owner"))
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        await stays.next("goaway")
        async with open_socket(gateway.url) as late:
            await late.connect(auth.token("viewer"))
            ends = [await client.closed() for client in (stays, silent, late)]
        await stopping

    assert [end.code for end in ends] == [4503] * 3
    assert {end.reason for end in ends} == {"this gateway is going away, connect again"}


async def test_client_whose_connect_is_pending_when_draining_begins_is_accepted_and_gets_goaway(
    stream: NatsServer, auth: FakeAuth
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await go_on.wait()

    running = running_gateway(stream, auth, stop_timeout_s=300)
    gateway = await running.__aenter__()
    async with open_socket(gateway.url) as late, open_socket(gateway.url) as client:
        await client.connect(auth.token("owner"))
        auth.before_answer = hold
        await late.send("connect", token=auth.token("viewer"), rooms=["campaign:c1"])
        await asked.wait()
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        await client.next("goaway")
        go_on.set()
        ack = await late.next("connection.ack")
        told = await late.next("goaway")
        await client.socket.close()
        await late.socket.close()
        await stopping

    assert ack["rooms"]["campaign:c1"]["success"] is True
    assert told["afterMs"] < told["withinMs"]


@given(window_s=st.integers(0, 300), count=st.integers(0, 50), moments=st.lists(st.floats(0, 400), max_size=20))
def test_present_sessions_leave_in_the_first_half_of_the_window_and_newcomers_in_the_second_half_of_the_rest(
    window_s: int, count: int, moments: list[float]
) -> None:
    goaways = GoAways(window_s, 1_000.0)
    messages = list(goaways.to_all(count))
    turns = [message.after_ms for message in messages]

    assert turns == sorted(turns)
    assert all(0 <= turn <= window_s * 500 for turn in turns)
    assert {message.within_ms for message in messages} <= {window_s * 1000}
    for moment in moments:
        now = 1_000.0 + moment  # rounded: the rest counts from here, not from `moment`
        goaway = goaways.to_newcomer(now)
        left = max(0.0, 1_000.0 + window_s - now) * 1000
        assert left / 2 - 1 <= goaway.after_ms <= goaway.within_ms <= left

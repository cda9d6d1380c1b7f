"""A gateway that stops (X4): a real process, clients that go, that stay, that are stuck, and a broker that is hung."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from services.gateway.frames import Opcode, decode_close
from shared.envelope import Envelope, Metadata
from tests.client import open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.gateway.test_frames import client_frame
from tests.gateway.test_stuck import Stuck
from tests.gateway.test_websocket import handshake, raw_socket
from tools.cluster import ServiceProcess
from tools.nats_server import NatsServer

GRACE_S = 15
"""Beyond its window a loaded machine may take this long to end a process; what hangs takes for ever."""


@asynccontextmanager
async def gateway_process(
    folder: Path, server: NatsServer, auth: FakeAuth, **more: str
) -> AsyncIterator[ServiceProcess]:
    """A gateway as it runs in production. Killed at the end of the block, if it still runs."""
    environment = {**server.environment("gateway"), "BEACONFIRE_JWKS_URL": auth.jwks_url, **more}
    process = ServiceProcess("gateway", "services.gateway", environment, folder=folder)
    try:
        await asyncio.to_thread(process.start)
        yield process
    finally:
        process.kill()


async def figure(process: ServiceProcess, name: str) -> float:
    """The sum of a metric of this gateway."""
    async with aiohttp.ClientSession() as http, http.get(f"{process.ops_url}/metrics") as answer:
        text = await answer.text()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)", text, re.MULTILINE))


async def get_stuck(stream: NatsServer, process: ServiceProcess, auth: FakeAuth, count: int) -> list[Stuck]:
    """Clients of a room that read nothing while events pour in, until each one's socket is full; and one that asks for
    files, and reads none, until no more are served."""
    hello = {"type": "connect", "id": 1, "token": auth.token("viewer"), "rooms": ["campaign:c1"]}
    stuck = [Stuck() for _ in range(count + 1)]
    for client in stuck:
        await client.open(process.url)
    for client in stuck[1:]:
        await client.send(handshake(process.url) + client_frame(json.dumps(hello).encode()))
    await stuck[0].send(b"GET /page/style.css HTTP/1.1\r\nHost: x\r\n\r\n" * 800)
    served = -1.0
    async with connected(stream, "publisher") as nc:
        while await figure(process, "gateway_lagging_total") < count or served < (
            served := await figure(process, "http_request_seconds_count")
        ):
            for _ in range(20):
                one = Envelope(settlement("s1", "c1", *["x" * 1000] * 60), Metadata(source="flood"))
                await nc.publish(one.subject, one.encode())
            await nc.flush()
    return stuck


@pytest.mark.parametrize("broker_hangs", [False, True])
async def test_stuck_clients(tmp_path: Path, stream: NatsServer, auth: FakeAuth, broker_hangs: bool) -> None:
    """SIGTERM: exit by the deadline, with code 0, whatever clients that read nothing and a hung broker leave undone."""
    settings = {"BEACONFIRE_STOP_TIMEOUT_S": "1", "BEACONFIRE_MAX_BUFFER_BYTES": "16384"}
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


async def test_while_it_drains(tmp_path: Path, stream: NatsServer, auth: FakeAuth) -> None:
    """From SIGTERM on it is not ready and takes nobody new, and each session is told when to go; a second SIGTERM ends
    it at once."""
    async with (
        gateway_process(tmp_path, stream, auth, BEACONFIRE_STOP_TIMEOUT_S="300") as process,
        open_socket(process.url) as client,
        open_socket(process.url) as newcomer,
    ):
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        process.terminate()
        told = await client.next("goaway")
        why_not = await asyncio.to_thread(process.why_not_ready)
        refused = await newcomer.closed()
        with pytest.raises(aiohttp.ClientError):
            await open_socket(process.url).__aenter__()
        answer = await client.ask("ping")
        process.terminate()
        ended = await asyncio.to_thread(process.process.wait, GRACE_S)

    assert (told["afterMs"], told["withinMs"]) == (0, 300_000)
    assert why_not == "stopping"
    assert (refused.code, refused.reason) == (4503, "this gateway is going away, connect again")
    assert answer["success"] is True
    assert (ended, process.process.exit_code) == (True, -15)


async def test_a_late_connect(stream: NatsServer, auth: FakeAuth) -> None:
    """Who is asking to connect while the gateway begins to stop is refused like anybody new."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await go_on.wait()

    running = running_gateway(stream, auth, stop_timeout_s=300)
    gateway = await running.__aenter__()
    async with raw_socket(gateway) as late, open_socket(gateway.url) as client:
        await client.connect(auth.token("owner"))
        auth.before_answer = hold
        hello = {"type": "connect", "id": 1, "token": auth.token("viewer"), "rooms": ["campaign:c1"]}
        late.write(client_frame(json.dumps(hello).encode()))
        await asked.wait()
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        opcode, payload = await late.frame()
        go_on.set()
        await client.next("goaway")
        await client.socket.close()
        await stopping

    assert (opcode, decode_close(payload)[0]) == (Opcode.CLOSE, 4503)

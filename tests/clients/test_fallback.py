"""The browser client without WebSockets, in Node, against a real gateway."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.gateway.events import member, publish_as_auth
from tests.javascript import node
from tests.polling import polling
from tests.proxy import Proxy

SCRIPT = Path(__file__).with_name("fallback.mjs")
ROOM, OTHER = "campaign:c1", "campaign:c2"
WAIT_S = 20.0

each_fallback = pytest.mark.parametrize("transport", ["sse", "poll"])


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer) -> AsyncIterator[FakeAuth]:
    auth = FakeAuth()
    auth.members = {role: {ROOM: role} for role in ("owner", "viewer")}
    async with auth.running(stream):
        yield auth


class Listener:
    """The client's process, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []

    async def next(self, kind: str) -> dict[str, Any]:
        """The next line with this field; others are passed over."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while True:
                line = json.loads(await self._process.stdout.readline())
                self.said.append(line)
                if kind in line:
                    return dict(line)

    def subscribe(self, room: str, **more: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"room": room, **more}).encode() + b"\n")

    @property
    def states(self) -> list[tuple[str, str | None]]:
        return [(line["state"], line.get("transport")) for line in self.said if "state" in line]


@asynccontextmanager
async def listening(url: str, transport: str, *tokens: str) -> AsyncIterator[Listener]:
    """A client that is connected."""
    process = await asyncio.create_subprocess_exec(
        node(),
        str(SCRIPT),
        url.replace("http", "ws") + "/ws",
        transport,
        *tokens,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        listener = Listener(process)
        while (await listener.next("state"))["state"] != "connected":
            pass
        yield listener
    finally:
        process.kill()
        await process.wait()


@each_fallback
async def test_room_of_a_snapshot_is_restored_and_then_live_without_a_gap(
    stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    auth.members["viewer"][OTHER] = "viewer"
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway,
        listening(gateway.url, transport, auth.token("viewer")) as client,
    ):
        client.subscribe(OTHER)
        await client.next("ready")
        await gateway.publish(settlement("first", "c2"))
        cursor_at = (await client.next("event"))["offset"]
        async with polling(gateway.url, auth.token("owner")) as other:
            epoch = cursor_of(str(other.cursor)).epoch
        names = [f"s{number}" for number in range(30)]
        for name in names:
            await gateway.publish(settlement(name, "c1", "x" * 1_500))
        client.subscribe(ROOM, cursor=f"{epoch}:{cursor_at}")
        restored = [(await client.next("event"))["event"] for _ in names]
        await client.next("ready")
        await gateway.publish(settlement("live", "c1"))
        await gateway.publish(settlement("last", "c2"))
        live = [(await client.next("event"))["event"] for _ in range(2)]

    assert restored == names
    assert live == ["live", "last"]
    assert client.states == [("connecting", None), ("connected", transport)]


@each_fallback
async def test_token_is_renewed_without_a_loss_and_a_removed_member_is_told(
    stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    async with running_gateway(stream, auth) as gateway:
        first, ends_at = auth.token("viewer", ttl_s=6), time.time() + 6
        async with listening(gateway.url, transport, first, auth.token("viewer")) as client:
            client.subscribe(ROOM)
            await client.next("ready")
            heard: list[str] = []
            while time.time() < ends_at + 2:  # beyond the end of the first token
                await gateway.publish(settlement(f"s{len(heard)}"))
                heard.append((await client.next("event"))["event"])
            auth.members["viewer"], auth.version = {}, 2
            await publish_as_auth(gateway, member("viewer", None))
            left = await client.next("left")

    assert heard == [f"s{number}" for number in range(len(heard))]
    assert [line["token"] for line in client.said if "token" in line] == ["connect", "expiring"]
    assert client.states == [("connecting", None), ("connected", transport)]
    assert left == {"left": ROOM, "reason": "membership_removed"}
    assert not [line for line in client.said if "unhandled" in line]


@each_fallback
async def test_client_in_a_quiet_room_is_connected_again_soon_after_it_lost_its_connection(
    stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    """A gateway lets a poll wait if it has the same rooms as the one before. The ack comes all the same."""
    async with (
        running_gateway(stream, auth) as gateway,
        Proxy(int(gateway.url.rpartition(":")[2])).running() as front,
        listening(f"http://127.0.0.1:{front.port}", transport, auth.token("viewer")) as client,
    ):
        client.subscribe(ROOM)
        await client.next("ready")
        with front.cut_off():
            lost = await client.next("state")
        async with asyncio.timeout(WAIT_S):
            while (await client.next("state"))["state"] != "connected":
                pass

    assert lost["state"] == "connecting"


@each_fallback
async def test_refused_room_is_told_and_does_not_stop_the_others(
    stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    async with (
        running_gateway(stream, auth) as gateway,
        listening(gateway.url, transport, auth.token("viewer")) as client,
    ):
        client.subscribe(OTHER)
        refused = await client.next("refused")
        client.subscribe(ROOM, types=["settlement_updated"])
        await client.next("ready")
        await gateway.publish(settlement("s1"))
        heard = await client.next("event")

    assert (refused["code"], refused["willRetry"]) == ("forbidden", False)
    assert (heard["event"], heard["room"]) == ("s1", ROOM)

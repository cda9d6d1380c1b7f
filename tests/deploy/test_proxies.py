"""Server-sent events with plain curl, through nginx, HAProxy and Caddy as deploy/proxy configures them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from tests.architecture.sources import ROOT
from tests.client import open_socket, trust, trusting
from tests.event_streams import WAIT_S, Ended, Parser, ServerSentEvent
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, _auth, _each_transport, on_both_transports, running_gateway, settlement  # noqa: F401
from tests.proxies import KINDS, UNDER_A_PREFIX, proxied

each_proxy = pytest.mark.parametrize("kind", KINDS)
each_version = pytest.mark.parametrize("version", ["--http1.1", "--http2"])


class Curl:
    """A curl that reads a stream. `head` is the status line and the headers."""

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output
        self._parser = Parser()
        self._events: list[ServerSentEvent] = []
        self.head = ""

    async def start(self) -> None:
        async with asyncio.timeout(WAIT_S):
            self.head = (await self._output.readuntil(b"\r\n\r\n")).decode()

    async def next(self, name: str) -> ServerSentEvent:
        """The next event of this name. Raises Ended."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if event.name == name:
                    return event
            await self._receive()

    async def comments(self, count: int) -> None:
        while self._parser.comments < count:
            await self._receive()

    async def _receive(self) -> None:
        async with asyncio.timeout(WAIT_S):
            data = await self._output.read(65_536)
        if not data:
            raise Ended
        self._events += self._parser.feed(data)


@asynccontextmanager
async def curl(url: str, token: str, *options: str, path: str = "/sse?rooms=campaign:c1") -> AsyncIterator[Curl]:
    """`curl -N` at `/sse`. It is killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *("curl", "--no-buffer", "--silent", "--include", "--insecure", "--noproxy", "*"),
        *("--header", f"Authorization: Bearer {token}", *options, f"{url}{path}"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    client = Curl(process.stdout)
    try:
        await client.start()
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def clients(*gateways: Gateway) -> int:
    return sum([(await gateway.stats())["clients"] for gateway in gateways])


@on_both_transports
@each_proxy
@each_version
async def test_events_come_through_at_once_and_the_end_of_either_side_is_seen(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, kind: str, version: str
) -> None:
    """Nothing is buffered: each event arrives before the next is published. A silent stream has its comments."""
    async with (
        running_gateway(stream, auth, heartbeat_s=1) as one,
        running_gateway(stream, auth, heartbeat_s=1) as other,
        proxied(kind, tmp_path, [one.url, other.url]) as url,
    ):
        async with curl(url, auth.token("viewer"), version) as client:
            await client.next("connection.ack")
            heard = []
            for number in range(3):
                published = await one.publish(settlement(f"s{number}"))
                heard.append((published, (await client.next("message")).json["offset"]))
            await client.comments(2)
        async with asyncio.timeout(WAIT_S):
            while await clients(one, other):
                await asyncio.sleep(0.02)
        async with curl(url, auth.token("viewer", ttl_s=2), version) as client:
            close = await client.next("close")
            with pytest.raises(Ended):
                await client.next("message")

    assert client.head.startswith("HTTP/2 200" if version == "--http2" else "HTTP/1.1 200")
    assert all(published == offset for published, offset in heard)
    assert close.json["code"] == 4401


@each_proxy
@each_version
async def test_stream_goes_on_at_another_gateway_after_its_own_has_stopped(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, kind: str, version: str
) -> None:
    """With the last id, as a browser does. Nothing is lost, and nothing comes twice."""
    async with AsyncExitStack() as stack:
        ends = [AsyncExitStack(), AsyncExitStack()]
        gateways = []
        for end in ends:
            await stack.enter_async_context(end)
            gateways.append(await end.enter_async_context(running_gateway(stream, auth)))
        url = await stack.enter_async_context(proxied(kind, tmp_path, [one.url for one in gateways]))
        async with curl(url, auth.token("viewer"), version) as client:
            await client.next("connection.ack")
            first = await gateways[0].publish(settlement("s0"))
            last = await client.next("message")
            leaves = 0 if await clients(gateways[0]) else 1
            await ends[leaves].aclose()
            with pytest.raises(Ended):
                await client.next("message")
        missed = await gateways[1 - leaves].publish(settlement("s1"))
        async with curl(url, auth.token("viewer"), version, "--header", f"Last-Event-ID: {last.id}") as client:
            offset = (await client.next("message")).json["offset"]

    assert last.json["offset"] == first
    assert offset == missed


@each_proxy
async def test_hundred_rooms_come_through_in_a_post(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, kind: str
) -> None:
    rooms = ["campaign:c1", *(f"campaign:c1/settlement:{'s' * 60}{number:02}" for number in range(99))]
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"rooms": rooms}))
    posted = ("--json", f"@{body}")
    async with (
        running_gateway(stream, auth) as one,
        running_gateway(stream, auth) as other,
        proxied(kind, tmp_path, [one.url, other.url]) as url,
        curl(url, auth.token("viewer"), "--http2", *posted, path="/sse") as client,
    ):
        ack = (await client.next("connection.ack")).json

    assert len([room for room in ack["rooms"].values() if room["success"]]) == 100


@each_proxy
async def test_connections_count_for_the_address_of_their_client_even_if_it_forges_a_header(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, kind: str
) -> None:
    """Each client has another address of the loopback interface."""
    one_for_each = {"max_sessions_per_address": 1, "trusted_proxies": "127.0.0.1/32"}
    async with (
        running_gateway(stream, auth, **one_for_each) as gateway,
        proxied(kind, tmp_path, [gateway.url, gateway.url]) as url,
        curl(url, auth.token("viewer"), "--interface", "127.0.0.2") as first,
        curl(url, auth.token("viewer"), "--interface", "127.0.0.3") as other,
        curl(url, auth.token("viewer"), "--interface", "127.0.0.2", "--header", "X-Forwarded-For: 127.0.0.4") as second,
    ):
        heads = [one.head.split("\r\n")[0].split()[1] for one in (first, other, second)]

    assert heads == ["200", "200", "429"]


@each_proxy
async def test_every_way_in_works_under_a_path_prefix_with_the_changes_of_the_page(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, kind: str
) -> None:
    page = (ROOT / "docs/howto/deploy.md").read_text()
    token = auth.token("viewer")
    async with (
        running_gateway(stream, auth, trusted_proxies="127.0.0.1/32") as gateway,
        proxied(kind, tmp_path, [gateway.url, gateway.url], under_prefix=True) as url,
        trusting(tmp_path / "site.crt") as http,
        curl(f"{url}/table", token) as events,
        open_socket(f"{url}/table", ssl=trust(tmp_path / "site.crt")) as socket,
    ):
        await events.next("connection.ack")
        await socket.connect(token, ["campaign:c1"])
        offset = await gateway.publish(settlement("s1"))
        heard = [(await events.next("message")).json["offset"], (await socket.next("event"))["offset"]]
        headers = {"Authorization": f"Bearer {token}"}
        async with http.post(f"{url}/table/poll", json={"rooms": ["campaign:c1"], "waitS": 0}, headers=headers) as poll:
            polled = poll.status
        async with http.get(f"{url}/table", allow_redirects=False) as bare:
            moved = (bare.status, bare.headers["Location"].removeprefix(url))

    assert heard == [offset, offset]
    assert polled == 200
    assert moved == (301, "/table/")
    assert [line for _, line in UNDER_A_PREFIX[kind] if f"`{line}`" not in page] == []

"""Operators see how many clients each transport and each dialect has: in statistics, metrics, and the log."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from structlog.testing import capture_logs

from tests.client import open_plain, open_socket
from tests.event_streams import open_stream
from tests.gateway.conftest import Gateway, on_both_transports
from tests.polling import polling, waiting
from tests.socketio.clients import raw_client

TRANSPORTS = {"polling": 1, "poll": 1, "sse": 1, "websocket": 3}
DIALECTS = {"beaconfire.v1": 3, "plain": 1, "socketio": 2}
BOTH = {
    ("poll", "beaconfire.v1"),
    ("polling", "socketio"),
    ("sse", "beaconfire.v1"),
    ("websocket", "beaconfire.v1"),
    ("websocket", "plain"),
    ("websocket", "socketio"),
}


@asynccontextmanager
async def one_of_each(gateway: Gateway) -> AsyncIterator[None]:
    """A client of each kind is connected. The poll waits for an event."""
    token = gateway.auth.token("viewer")
    async with AsyncExitStack() as stack:
        native = await stack.enter_async_context(open_socket(gateway.url))
        await native.connect(token, ["campaign:c1"])
        plain = await stack.enter_async_context(open_plain(gateway.url, token))
        await plain.next("connection.ack")
        await (await stack.enter_async_context(open_stream(gateway.url, token))).ack()
        await stack.enter_async_context(socketio_by_polling(gateway, token))
        socketio = await stack.enter_async_context(raw_client(gateway.url))
        await socketio.say(f'40{{"token":"{token}"}}')
        await socketio.hear_that("40")
        poll = await stack.enter_async_context(polling(gateway.url, token))
        await stack.enter_async_context(waiting(poll))
        while (await gateway.stats())["clients"] < len(BOTH):
            pass
        yield


@asynccontextmanager
async def socketio_by_polling(gateway: Gateway, token: str) -> AsyncIterator[None]:
    """A client that has connected to the main namespace over HTTP alone."""
    async with aiohttp.ClientSession() as http:
        url = f"{gateway.url}/socket.io/?EIO=4&transport=polling"
        async with http.get(url) as answer:
            sid = re.findall(r'"sid":"(.+?)"', await answer.text())[0]
        async with http.post(f"{url}&sid={sid}", data=f'40{{"token":"{token}"}}') as answer:
            assert answer.status == 200
        async with http.get(f"{url}&sid={sid}") as answer:
            assert (await answer.text()).startswith("40")
        yield
        async with http.post(f"{url}&sid={sid}", data="1") as answer:
            assert answer.status == 200


async def sessions(gateway: Gateway) -> dict[tuple[str, str], float]:
    """The metric of sessions, by transport and dialect."""
    found = re.findall(
        r'^beaconfire_gateway_sessions\{dialect="(.+?)",transport="(.+?)"\} (\S+)$', await gateway.metrics(), re.M
    )
    return {(transport, dialect): float(count) for dialect, transport, count in found}


@on_both_transports
async def test_statistics_metrics_and_log_name_the_transport_and_dialect_of_each_client(gateway: Gateway) -> None:
    before = await sessions(gateway)
    with capture_logs() as lines:
        async with one_of_each(gateway):
            stats = await gateway.stats()
            clients = await clients_of(gateway, "viewer")
            during = await sessions(gateway)
        while (await gateway.stats())["clients"]:
            pass
        after = await sessions(gateway)
    logged = [(line["transport"], line["dialect"]) for line in lines if line["event"] == "connected"]

    assert stats["clientsPerTransport"] == TRANSPORTS
    assert stats["clientsPerDialect"] == DIALECTS
    assert {(one["transport"], one["dialect"]) for one in clients} == BOTH
    assert {kind: during[kind] - before.get(kind, 0) for kind in BOTH} == dict.fromkeys(BOTH, 1)
    assert {kind: after[kind] - before.get(kind, 0) for kind in BOTH} == dict.fromkeys(BOTH, 0)
    assert sorted(set(logged)) == sorted(BOTH)


async def clients_of(gateway: Gateway, user: str) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{gateway.ops_url}/api/v1/ws/users/{user}/clients") as answer,
    ):
        found: list[dict[str, Any]] = (await answer.json())["clients"]
        return found

"""Which traces of clients a service continues."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from beaconfire_kit.http_traces import middleware
from beaconfire_kit.settings import Settings
from beaconfire_kit.spans import Spans
from beaconfire_kit.trace_settings import TraceSettings
from beaconfire_kit.web import application
from tests.collector import NO_PARENT, Collector, collecting

PAGE = "b" * 16
"""The span of a page that has begun a trace."""


@pytest.fixture(name="collector")
async def _collector() -> AsyncIterator[tuple[Collector, Spans]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with collecting(listener) as collector:
            spans = Spans("quests", TraceSettings(exporter_otlp_endpoint=url))
            yield collector, spans
            await asyncio.to_thread(spans.close)


async def answer(_request: web.Request) -> web.Response:
    return web.Response()


async def requests(spans: Spans, limit: int, count: int, **headers: str) -> None:
    """Ask as often, each time in another trace."""
    app = application(Settings(environment="development"), ready=lambda: None)
    app.middlewares.insert(0, middleware(spans, limit))
    app.router.add_get("/quests/{id}", answer)
    async with TestClient(TestServer(app)) as client:
        for number in range(1, count + 1):
            traceparent = {"traceparent": f"00-{number:032x}-{PAGE}-01"}
            (await client.get(f"/quests/{number}?token=secret", headers={**traceparent, **headers})).release()
    await asyncio.to_thread(spans.close)


@pytest.mark.parametrize("limit", [0, 2])
async def test_only_so_many_traces_of_clients_are_continued(collector: tuple[Collector, Spans], limit: int) -> None:
    """A client could have everything traced otherwise. Further requests begin traces of their own."""
    collected, spans = collector
    await requests(spans, limit, 5)
    parents = [one.parent for one in collected.spans]

    assert sorted(parents) == sorted([PAGE] * limit + [NO_PARENT] * (5 - limit))
    assert {one.name for one in collected.spans} == {"GET /quests/{id}"}
    assert "secret" not in str(collected.spans)


async def test_probes_are_not_traced_and_everything_else_is_answered_as_before(
    collector: tuple[Collector, Spans],
) -> None:
    """A browser's question what a page may send gets no correlation id, and is answered all the same."""
    collected, spans = collector
    app = application(Settings(environment="development", allowed_origins=("https://a.example",)), ready=lambda: None)
    app.middlewares.insert(0, middleware(spans, 10))
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "PATCH"}
    async with TestClient(TestServer(app)) as client:
        for path in ("/healthz", "/readyz", "/unknown"):
            (await client.get(path)).release()
        async with client.options("/quests/1", headers=preflight) as allowed:
            assert allowed.status == 204
            assert "traceparent, tracestate" in allowed.headers["Access-Control-Allow-Headers"]
    await asyncio.to_thread(spans.close)

    assert [one.name for one in collected.spans] == ["GET", "OPTIONS"]

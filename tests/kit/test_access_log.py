"""The access log has a line for each request, without anything that its sender chose. It is off by default."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from structlog.testing import capture_logs

from beaconfire_kit.serving import listening
from beaconfire_kit.settings import Settings
from beaconfire_kit.web import application

CALLS = ("/things/t1?token=eyJsecret.secret&ticket=secret", "/secret/nowhere?secret=1", "/boom")


async def thing(_request: web.Request) -> web.Response:
    return web.json_response({})


async def boom(_request: web.Request) -> web.Response:
    raise RuntimeError("secret")


@asynccontextmanager
async def service(**settings: Any) -> AsyncIterator[str]:
    chosen = Settings(**settings)
    app = application(chosen, ready=lambda: None)
    app.router.add_get("/things/{id}", thing)
    app.router.add_get("/boom", boom)
    async with listening(app, chosen, name="things") as at:
        yield at.url


async def lines_of(**settings: Any) -> list[dict[str, Any]]:
    """The access log of some requests."""
    headers = {"X-Correlation-Id": "corr-1", "Authorization": "Bearer secret", "Cookie": "session=secret"}
    with capture_logs() as lines:
        async with service(**settings) as url, aiohttp.ClientSession(headers=headers) as http:
            for path in CALLS:
                (await http.get(url + path)).release()
    return [dict(one) for one in lines if one["event"] == "served a request"]


async def test_each_request_is_logged_with_route_status_duration_and_correlation_id() -> None:
    lines = await lines_of(access_log=True)

    assert [(one["method"], one["route"], one["status"], one["correlation_id"]) for one in lines] == [
        ("GET", "/things/{id}", 200, "corr-1"),
        ("GET", "other", 404, "corr-1"),
        ("GET", "/boom", 500, "corr-1"),
    ]
    assert all(one["duration_ms"] >= 0 for one in lines)
    assert "secret" not in str(lines)


async def test_no_request_is_logged_by_default() -> None:
    assert await lines_of() == []

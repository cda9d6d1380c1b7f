"""Pages of other origins may use the transports over HTTP as one table says."""

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.cors import RULES
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway

APP = "https://app.example"
PREFIX = "access-control-"


@pytest.mark.parametrize("path", [*RULES, "/sse/tickets", "/sse/messages", "/socket.io/"])
async def test_page_of_an_allowed_origin_may_send_cookies_and_the_last_event_id(
    stream: NatsServer, auth: FakeAuth, path: str
) -> None:
    ask = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}
    async with running_gateway(stream, auth, allowed_origins=APP) as gateway, aiohttp.ClientSession() as http:
        allowed = await http.options(f"{gateway.url}{path}", headers={"Origin": APP, **ask})
        foreign = await http.options(f"{gateway.url}{path}", headers={"Origin": "https://evil.example", **ask})
        answer = await http.get(f"{gateway.url}{path}", headers={"Origin": APP})

    assert allowed.status == 204
    assert allowed.headers["Access-Control-Allow-Origin"] == answer.headers["Access-Control-Allow-Origin"] == APP
    assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert {"Last-Event-ID", "Authorization"} <= set(allowed.headers["Access-Control-Allow-Headers"].split(", "))
    assert {"GET", "POST"} == set(allowed.headers["Access-Control-Allow-Methods"].split(", "))
    assert "X-Beaconfire-Cursor" in answer.headers["Access-Control-Expose-Headers"]
    assert not [name for name in foreign.headers if name.lower().startswith(PREFIX)]


async def test_other_routes_share_nothing_with_pages_that_send_cookies(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, allowed_origins=APP) as gateway, aiohttp.ClientSession() as http:
        answers = [await http.get(f"{gateway.url}{path}", headers={"Origin": APP}) for path in ("/readyz", "/ssehole")]

    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert "Access-Control-Allow-Credentials" not in answer.headers

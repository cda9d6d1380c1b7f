"""Which forwarding header is believed, over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.serving import listening
from beaconfire_kit.settings import BehindProxies
from beaconfire_kit.web import application

PROXY = "127.0.0.0/8"
XFF, FORWARDED = "X-Forwarded-For", "Forwarded"


@asynccontextmanager
async def asked(**settings: Any) -> AsyncIterator[Any]:
    """A service that answers with the address of its client, as read from these headers."""
    chosen = BehindProxies(**settings)
    addresses = ClientAddresses(chosen)
    app = application(chosen, ready=lambda: None)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=addresses.of(request))

    app.router.add_get("/address", answer)
    async with listening(app, chosen, name="test") as at, aiohttp.ClientSession() as http:

        async def ask(*headers: tuple[str, str]) -> str:
            async with http.get(f"{at.url}/address", headers=list(headers)) as said:
                return await said.text()

        yield ask


def unreadable(reason: str) -> float:
    """How often requests were counted under a proxy's address for this reason."""
    return REGISTRY.get_sample_value("beaconfire_http_forwarded_headers_unreadable_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize(
    ("header", "value", "other", "forged"),
    [(XFF, "198.51.100.1:443", FORWARDED, "for=6.6.6.6"), (FORWARDED, "for=198.51.100.1", XFF, "6.6.6.6")],
)
async def test_only_the_configured_header_is_believed(header: str, value: str, other: str, forged: str) -> None:
    """A client that sends the other header is not believed, alone or beside the right one."""
    async with asked(trusted_proxies=PROXY, forwarded_header=header) as ask:
        before = unreadable("other_header")
        told = [await ask((header, value)), await ask((header, value), (other, forged)), await ask((other, forged))]

    assert told == ["198.51.100.1", "198.51.100.1", "127.0.0.1"]
    assert unreadable("other_header") == before + 1


async def test_forwarding_headers_are_ignored_without_trusted_proxies_and_one_log_line_names_the_setting() -> None:
    async with asked() as ask:
        with capture_logs() as lines:
            told = [await ask((XFF, "198.51.100.1")) for _ in range(3)] + [await ask((FORWARDED, "for=198.51.100.1"))]

    assert told == ["127.0.0.1"] * 4
    assert ["BEACONFIRE_TRUSTED_PROXIES" in line["event"] for line in lines if line["log_level"] == "warning"] == [True]


@pytest.mark.parametrize(
    ("value", "reason"), [("unknown", "unknown"), ("_hidden", "hidden"), ("app.example", "malformed")]
)
async def test_unreadable_forwarding_headers_are_counted_and_logged_once_a_minute_for_each_reason(
    value: str, reason: str
) -> None:
    async with asked(trusted_proxies=PROXY) as ask:
        before = unreadable(reason)
        with capture_logs() as lines:
            told = {await ask((XFF, value)) for _ in range(3)}

    assert told == {"127.0.0.1"}
    assert unreadable(reason) == before + 3
    found = [(line["reason"], line["entry"]) for line in lines if line["log_level"] == "warning"]
    assert found == [(reason, value)]


async def test_several_forwarding_headers_are_read_as_one_list() -> None:
    async with asked(trusted_proxies=PROXY) as ask:
        told = await ask((XFF, "6.6.6.6"), (XFF, "[2001:db8::7]:443"), (XFF, "127.0.0.2:80"))

    assert told == "2001:db8::7"

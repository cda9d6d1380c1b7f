"""A real gateway on real sockets and a real broker; only auth is a stand-in that a test can make misbehave."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.app import Tuning, build
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.serving import listening
from beaconfire_kit.web import DEFAULT_TIMES, REQUEST_TIMES, RequestTimes
from tests.conftest import broker_settings, connected
from tests.fakes import FakeAuth
from tests.gateway.core import SOCKETS, Recorder, build_core, close_ends, spawning

on_both_transports = pytest.mark.usefixtures("each_transport")


@dataclass
class Gateway:
    """A running gateway and the peers around it."""

    url: str
    ops_url: str
    auth: FakeAuth
    server: NatsServer
    publisher: Client

    async def publish(self, event: Event, **metadata: Any) -> int:
        """Publish an event as a domain service would; returns its offset."""
        envelope = Envelope(event, Metadata(source="api", **metadata))
        return await broker.publish(self.publisher, envelope.subject, envelope.encode(), message_id=envelope.id)

    async def stats(self) -> dict[str, Any]:
        """Return the statistics for operators. Metrics are of the whole process, so they include earlier tests."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.ops_url}/api/v1/ws/stats") as answer:
            return dict(await answer.json())

    async def sessions(self, *query: tuple[str, str]) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer to an operator who asks for sessions."""
        url = f"{self.ops_url}/api/v1/ws/sessions?{urlencode(query)}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status, dict(await answer.json())

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as http, http.get(f"{self.ops_url}/metrics") as answer:
            return await answer.text()


def settlement(settlement_id: str = "s1", campaign_id: str = "c1", *fields: str) -> SettlementUpdated:
    """An event that reaches `campaign:c1` and `settlement:s1`."""
    return SettlementUpdated(
        campaign_id=campaign_id, settlement_id=settlement_id, operation="update", changed_fields=fields or ("level",)
    )


def built(
    server: NatsServer, auth: FakeAuth, tuning: Tuning | None = None, **settings: Any
) -> tuple[web.Application, Settings]:
    """Return a gateway's application, which has not started, and its settings."""
    common = broker_settings(server, "gateway").model_dump()
    quick = {"stop_timeout_s": 0}  # a test's clients are not waited for, unless it says so
    chosen = Settings(**{**common, **quick, "port": 0, "jwks_url": auth.jwks_url, **settings})
    return build(chosen, on_fatal=lambda: pytest.fail("the gateway lost its broker for good"), tuning=tuning), chosen


@asynccontextmanager
async def running_gateway(
    server: NatsServer,
    auth: FakeAuth,
    tuning: Tuning | None = None,
    times: RequestTimes = DEFAULT_TIMES,
    /,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """Start a gateway in this process, on free ports; yields when it is ready."""
    app, chosen = built(server, auth, tuning, **settings)
    app[REQUEST_TIMES] = times
    async with connected(server, "publisher") as publisher, listening(app, chosen, name="gateway") as at:
        gateway = Gateway(at.url, at.ops_url, auth, server, publisher)
        await _ready(gateway)
        yield gateway


@pytest.fixture(name="core")
async def _core() -> AsyncIterator[Core]:
    """The gateway's core on real sockets, with nothing outside it."""
    with _running_core() as core:
        yield core


@pytest.fixture(name="slicing_core")
async def _slicing_core() -> AsyncIterator[Core]:
    """The same, but a write to several sessions takes a turn of the loop for each."""
    with _running_core(slice_sessions=1) as core:
        yield core


@contextmanager
def _running_core(**options: Any) -> Iterator[Core]:
    loop = asyncio.get_running_loop()
    try:
        with closing(Recorder(loop)) as sockets:
            limits = Limits(max_sessions_per_address=10_000)
            core = build_core(call_soon=loop.call_soon, spawn=spawning(loop), limits=limits, **options)
            SOCKETS[core] = sockets
            yield core
    finally:
        close_ends()


@pytest.fixture(name="each_transport", params=["handover", "aiohttp"])
def _each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test on the gateway's own sockets, and again on those that stay aiohttp's."""
    monkeypatch.setenv("BEACONFIRE_TRANSPORT", request.param)


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer) -> AsyncIterator[FakeAuth]:
    """Auth, with `owner`, `editor` and `viewer` as members of campaign c1."""
    auth = FakeAuth()
    auth.members = {role: {"campaign:c1": role} for role in ("owner", "editor", "viewer")}
    async with auth.running(stream):
        yield auth


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Gateway]:
    """A gateway with the settings it is shipped with."""
    async with running_gateway(stream, auth) as gateway:
        yield gateway


async def _ready(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{gateway.url}/readyz") as answer:
                if answer.status == 200:
                    return

"""What every browser must do with the page: sign in, hear, resume, fall back, and return to a WebSocket."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from tests.browser.conftest import Table
from tests.browser.looks import keep_stage
from tests.browser.recording import RECORD, assert_once, heard, publish, publishing, stored_between
from tests.browser.tabs import Tab
from tests.forked import all_running
from tests.proxy import Proxy

PORT = free_port()
NO_PAUSES = "() => { Math.random = () => 0; }"
ONLINE = "() => { window.dispatchEvent(new Event('online')); }"
# The recording client does not wait for the end of its pause.
RETRY = "() => window.client.retry()"
UNTIL_PROBLEM = """() => new Promise((resolve) => {
    const look = () => (window.record.problems.length > 0 ? resolve() : setTimeout(look, 20));
    look();
})"""
# An hour passes, so the page's access token is too old. Its requests are given up ten times as soon.
HOUR_PASSES = """() => {
    Date.now = ((now) => () => now.call(Date) + 3_600_000)(Date.now);
    const later = window.setTimeout;
    AbortSignal.timeout = (ms) => {
        const controller = new AbortController();
        later(() => controller.abort(), ms / 10);
        return controller.signal;
    };
}"""
# The id of a thing on the page.
KEY = """(name) => document.querySelector(`button[aria-label="Edit ${name}"]`).dataset.id"""
# Wait until the recording client is connected in this way.
UNTIL_WAY = """(way) => new Promise((resolve) => {
    const look = () => (window.client.status.transport === way ? resolve() : setTimeout(look, 20));
    look();
})"""
LIGHT, NOTICE, FEED = "#connection", ".beaconfire-toast", ".entry-text"
GREEN = f"{LIGHT}[data-look=green]"
"""The indicator is visible only for the first three seconds of a connection."""

pytestmark = pytest.mark.timeout(180)


def browsers(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tab", names, indirect=True)


class Network(Proxy):
    """The way to the gateway. It can block WebSockets and streams, as the proxies of some companies do."""

    def __init__(self, gateway_port: int) -> None:
        super().__init__(gateway_port, port=PORT, rewrite=self._pass_on)
        self._blocked: tuple[str, ...] = ()

    def block(self, *paths: str) -> None:
        """End all connections. From now on, requests for these paths are answered with 404."""
        self._blocked = paths
        self.cut()

    def unblock(self) -> None:
        self._blocked = ()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Lose what is sent, and hold back what is received, until the end of the block. Connections stay open."""
        self.swallow = lambda _chunk: True
        self.flowing.clear()
        try:
            yield
        finally:
            self.swallow = lambda _chunk: False
            self.flowing.set()

    def _pass_on(self, chunk: bytes) -> bytes:
        for path in self._blocked:
            chunk = re.sub(rb"^(GET|POST) /%s " % path.encode(), rb"\1 /blocked ", chunk, count=1)
        return chunk


class NetworkTable(Table):
    """The services, as they are reached through the network."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{PORT}/"

    async def sign_in(self, tab: Tab, *, script: str = "() => {}") -> None:
        """Sign in on the page as a user does, after a script has run there, and open the campaign."""
        await tab.goto(self.url)
        await tab.evaluate(script)
        await tab.press(".person", "Owner")
        await tab.press("a", demo.campaign.CAMPAIGN)
        await tab.until("h3", "Emberford")

    def read(self, url: str) -> dict[str, Any]:
        """A settlement, as it is now."""
        settlement: dict[str, Any] = call("GET", url, token=self.token("Owner"))["settlement"]
        return settlement


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set; its services answer pages that come through the network."""
    people = [person.sign_in() for person in demo.PEOPLE]
    plan = Plan(tmp_path_factory.mktemp("core"), gateways=1, origins=(f"http://127.0.0.1:{PORT}",), people=people)
    with all_running(plan) as whole:
        yield whole


@pytest.fixture(name="table")
async def _table(demo_services: Services, demo_campaign: str) -> NetworkTable:
    return NetworkTable(demo_services, demo_campaign)


@pytest.fixture(name="network")
async def _network(demo_services: Services) -> AsyncIterator[Network]:
    network = Network(demo_services.gateways[0].port)
    async with network.running():
        yield network


@browsers("phone", "firefox")
async def test_user_signs_in_hears_changes_and_misses_nothing_over_a_restart_and_without_a_network(
    table: NetworkTable, network: Network, tab: Tab
) -> None:
    """While the browser knows that it is offline, attempts are not counted."""
    gateway = table.services.gateways[0]
    await table.sign_in(tab)
    await tab.press("button[aria-label='Raise the level of Emberford']")
    await tab.until(FEED, "You changed the level of Emberford")
    await tab.evaluate(RECORD, [table.room, "websocket"])
    async with publishing(table) as offsets:
        await asyncio.to_thread(gateway.kill)
        await tab.until(LIGHT, "Reconnecting (")
        await tab.until(NOTICE, "The connection was lost. Trying to reconnect…")
        await asyncio.to_thread(gateway.start)
        await tab.until_there(GREEN)
        with network.gone():
            await tab.set_offline(True)
            await tab.until(LIGHT, "Reconnecting (1 of 10)")
        await tab.set_offline(False)
        await tab.until_there(GREEN)
    record = await heard(tab, offsets)

    assert_once(record, offsets)
    assert record["shown"][-2:] == ["Reconnecting (1 of 10)…", "Connected"]
    assert any("Connected again." in text for text in record["notices"])


@browsers("chromium", "firefox")
async def test_page_waits_for_a_token_endpoint_that_hangs_and_misses_nothing(
    table: NetworkTable, network: Network, tab: Tab, tmp_path: Path
) -> None:
    """The auth service is frozen. The page's client and the recording one both need a new token to reconnect."""
    auth = table.services.auth.process
    await table.sign_in(tab)
    await tab.evaluate(RECORD, [table.room, "auto", table.members_url])
    await tab.until_there(f"{LIGHT}[hidden]")
    await tab.evaluate(HOUR_PASSES)
    async with publishing(table) as offsets:
        auth.freeze()
        try:
            network.cut()
            await tab.until(LIGHT, "Reconnecting (3 of 10)…")  # an attempt of the page got no token, or two
            await tab.until(NOTICE, "The connection was lost. Trying to reconnect…")
            await tab.evaluate(UNTIL_PROBLEM)  # the recording client waits longer for its token
            await keep_stage(tab, tmp_path / "hung.png")
        finally:
            auth.thaw()
        await tab.until_there(GREEN)
        await keep_stage(tab, tmp_path / "answered.png")
        await tab.evaluate(RETRY)
    record = await heard(tab, offsets)

    assert_once(record, offsets)
    assert record["problems"][0] == "token: getToken took longer than 2 s"
    assert record["transports"] == ["websocket"] * 2
    *waiting, last = record["shown"]
    assert all(re.fullmatch(r"Reconnecting \([1-9] of 10\)…", text) for text in waiting)
    assert (sorted(waiting), last) == (waiting, "Connected")
    assert [text.partition("\n")[0] for text in record["notices"]] == [
        "The connection was lost. Trying to reconnect…",
        "Connected again.",
    ]


@browsers("chromium", "firefox")
async def test_changes_made_offline_are_made_once_and_in_order_after_a_conflict_is_solved(
    table: NetworkTable, network: Network, tab: Tab, tmp_path: Path
) -> None:
    """Another user has changed the level that the owner raised twice. The owner's values stay."""
    await table.sign_in(tab)
    emberford = await tab.evaluate(KEY, "Emberford")
    smithy = await tab.evaluate(KEY, "Smithy")
    url = f"{table.campaign_url}/settlements/{emberford}"
    before = table.read(url)
    await tab.evaluate(RECORD, [table.room, "auto"])
    await tab.until_there(f"{LIGHT}[hidden]")
    async with publishing(table) as offsets:
        with network.gone():
            await tab.set_offline(True)
            await tab.until(LIGHT, "Reconnecting (1 of 10)…")
            for name in ("Emberford", "Emberford", "Smithy"):
                await tab.press(f"button[aria-label='Raise the level of {name}']")
            await tab.until(NOTICE, "Your change is kept, and sent when the connection is back.")
            await keep_stage(tab, tmp_path / "offline.png")
            call("PATCH", url, {"level": 40}, token=table.token("Editor"))
        await tab.set_offline(False)
        await tab.until("dialog", "Another user changed the same. Choose what shall stay.")
        await keep_stage(tab, tmp_path / "conflict.png")
        await tab.press("dialog button[type=submit]")
        for key in (emberford, smithy):
            await tab.until_there(f"[data-key='{key}']:not([aria-busy])")
        await keep_stage(tab, tmp_path / "solved.png")
    offsets += await publish(table, 1)
    record = await heard(tab, offsets)
    stored = await stored_between(table, offsets[0], offsets[-1])

    assert_once(record, offsets)
    assert [offset for offset in record["offsets"] if offset >= offsets[0]] == list(stored)
    changed = [subject.rpartition(".")[2] for subject in stored.values() if subject.endswith((emberford, smithy))]
    assert changed == [emberford] * 3 + [smithy]
    after = table.read(url)
    assert after["revision"] == before["revision"] + 3
    assert after["level"] == before["level"] + 2
    assert record["shown"] == ["Reconnecting (1 of 10)…", "Connected"]


@browsers("chromium", "firefox")
async def test_page_moves_from_websocket_to_stream_to_polls_and_back_with_one_cursor(
    table: NetworkTable, network: Network, tab: Tab
) -> None:
    await table.sign_in(tab, script=NO_PAUSES)
    await tab.evaluate(RECORD, [table.room, "auto"])
    async with publishing(table) as offsets:
        network.block("ws")
        await tab.until(LIGHT, "Not live: connected without a WebSocket")
        await tab.evaluate(UNTIL_WAY, "sse")
        network.block("ws", "sse")
        await tab.until(LIGHT, "Not live: asking for changes")
        await tab.evaluate(UNTIL_WAY, "poll")
        network.unblock()
        await tab.evaluate(ONLINE)
        await tab.until_there(GREEN)
        await tab.evaluate(UNTIL_WAY, "websocket")
    record = await heard(tab, offsets)

    assert_once(record, offsets)
    assert record["transports"] == ["websocket", "sse", "poll", "websocket"]
    assert record["states"][-2:] == ["connected", "connected"]  # the polls went on until the WebSocket was there


@browsers("chromium", "firefox")
async def test_page_hears_everything_once_on_a_slow_network_that_stalls_and_breaks(
    table: NetworkTable, network: Network, tab: Tab
) -> None:
    """Each packet takes a while, a lost one takes much longer, and connections are cut."""
    chance = random.Random(17)
    await table.sign_in(tab, script=NO_PAUSES)
    await tab.evaluate(RECORD, [table.room, "auto"])
    network.delay_s = lambda: chance.choice([0.02, 0.05, 0.1, 0.1, 0.6])
    async with publishing(table) as offsets:
        for _ in range(3):
            await heard(tab, await publish(table, 1))
            network.cut()
        await heard(tab, await publish(table, 1))
    network.delay_s = lambda: 0.0
    record = await heard(tab, offsets)
    await tab.until_there(GREEN)

    assert_once(record, offsets)
    assert record["transports"] == ["websocket"] * 4

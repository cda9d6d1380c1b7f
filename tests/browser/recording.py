"""What a page hears, beside what it shows: a client of the test's own in the page, and events that the test publishes.

await tab.evaluate(RECORD, [table.room, "auto"])
offsets = await publish(table, 5)
record = await heard(tab, offsets)
assert_once(record, offsets)
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import StateInvalidated
from tests.browser.conftest import Table
from tests.conftest import connected

WAIT_MS = 40_000
# Wait until `window.heard` has as many entries.
UNTIL_HEARD = """(count) => new Promise((resolve) => {
    const look = () => (window.heard.length >= count ? resolve() : setTimeout(look, 20));
    look();
})"""
# A client beside the page's own. It records what it hears, how it is connected, and what the page's indicator and
# its notices show. It has the page's access token. With the address of a service, it asks there before it uses the
# token, so it has none while that service hangs.
RECORD = """async ([room, transport, asked]) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const heard = { offsets: [], errors: [], resyncs: 0, problems: [] };
    const record = (window.record = { ...heard, states: [], transports: [], shown: [], notices: [] });
    const getToken = async ({ signal }) => {
        if (asked) await fetch(asked, { headers: { Authorization: `Bearer ${accessToken}` }, signal });
        return accessToken;
    };
    const client = (window.client = new Client({
        url,
        transport,
        getToken,
        tokenTimeoutMs: 2000,
        onError: ({ kind, error }) => record.problems.push(`${kind}: ${error.message}`),
    }));
    client.on("state", ({ state, transport }) => {
        record.states.push(state);
        if (transport) record.transports.push(transport);
    });
    client.on("error", (error) => record.errors.push(error));
    client.on("resync", () => (record.resyncs += 1));
    await new Promise((onReady) => {
        const onEvent = (event, { offset }) => offset !== undefined && record.offsets.push(offset);
        client.subscribe(room, { onReady, onEvent });
        client.connect();
    });
    const light = document.getElementById("connection");
    const note = () => {
        const text = light.innerText.trim();
        if (!light.hidden && record.shown.at(-1) !== text) record.shown.push(text);
    };
    new MutationObserver(note).observe(light, { attributes: true, childList: true, subtree: true });
    const list = document.getElementById("toasts");
    const words = (changes) => changes.flatMap(({ addedNodes }) => [...addedNodes].map((one) => one.innerText));
    new MutationObserver((changes) => record.notices.push(...words(changes))).observe(list, { childList: true });
}"""
UNTIL_AT = """([offset, waitMs]) => new Promise((resolve, reject) => {
    const end = Date.now() + waitMs;
    const look = () => {
        const { record } = window;
        if (record.offsets.at(-1) >= offset) return resolve(record);
        if (Date.now() > end) return reject(new Error(`No event ${offset}: ${JSON.stringify(record)}`));
        setTimeout(look, 20);
    };
    look();
})"""


class Scripted(Protocol):
    """A page of Playwright, or a tab of any browser."""

    async def evaluate(self, expression: str, arg: Any = None) -> Any: ...


async def publish(table: Table, count: int) -> list[int]:
    """Publish events of the campaign. Returns their offsets."""
    async with connected(table.services.nats, "publisher") as nc:
        return [await _publish_one(nc, table) for _ in range(count)]


@asynccontextmanager
async def publishing(table: Table) -> AsyncIterator[list[int]]:
    """Publish fifty events of the campaign a second while the block runs. Yields their offsets, as they come."""
    offsets: list[int] = []
    stop = asyncio.Event()

    async def publish_on() -> None:
        async with connected(table.services.nats, "publisher") as nc:
            while not stop.is_set():
                offsets.append(await _publish_one(nc, table))
                await asyncio.sleep(0.02)  # the rate

    task = asyncio.create_task(publish_on())
    try:
        yield offsets
    finally:
        stop.set()
        await task


async def _publish_one(nc: Any, table: Table) -> int:
    event = StateInvalidated(scope="campaign", campaign_id=table.campaign, affected_fields=("income",))
    one = Envelope(event, Metadata(source="load"))
    return await broker.publish(nc, one.subject, one.encode(), message_id=one.id)


async def stored_between(table: Table, first: int, last: int) -> dict[int, str]:
    """Read the campaign's events from the stream, from one offset to another. Returns their subjects, by offset."""
    subjects: dict[int, str] = {}
    async with connected(table.services.nats, "setup") as nc:
        offset = first - 1
        while offset < last:
            filter_ = f"campaign.{table.campaign}.>"
            stored = await nc.jetstream().get_msg(broker.STREAM, offset + 1, subject=filter_, next=True)
            offset = stored.seq or 0
            subjects[offset] = stored.subject or ""
    return subjects


async def heard(page: Scripted, offsets: Sequence[int]) -> dict[str, Any]:
    """Return what the page has recorded, once it has heard the last of these events."""
    return dict(await page.evaluate(UNTIL_AT, [offsets[-1], WAIT_MS]))


def assert_once(record: dict[str, Any], offsets: Sequence[int]) -> None:
    """Each of these events was heard once and in order, among those of others, and the state was never loaded again."""
    own = set(offsets)
    assert [offset for offset in record["offsets"] if offset in own] == list(offsets)
    assert record["offsets"] == sorted(set(record["offsets"]))
    assert (record["resyncs"], record["errors"]) == (0, [])

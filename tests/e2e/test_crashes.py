"""After SIGKILL of any process, committed events arrive once and in order on every gateway."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from nats.aio.client import Client

from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.e2e.conftest import Line
from tests.forked import all_forked
from tests.proxy import Proxy

WRITERS = 4
EVENTS_EACH = 250


async def test_event_committed_before_a_publisher_is_killed_arrives_once_after_its_restart(tmp_path: Path) -> None:
    """The publisher's route to the broker swallows its messages, so the change is committed and answered, but not
    relayed."""
    nats_port = free_port()
    async with Proxy(nats_port).running() as proxy, aiohttp.ClientSession() as http:
        behind = {"publisher": {"BEACONFIRE_NATS_URL": f"nats://127.0.0.1:{proxy.port}"}}
        services = all_forked(Services(Plan(tmp_path, gateways=1, nats_port=nats_port, environment=behind)))
        try:
            await asyncio.to_thread(services.start)
            line = Line(services, http)
            owner = await line.sign_up("owner")
            campaign = await line.campaign(owner)
            settlement = await line.settlement(owner, campaign)
            path = f"/v1/campaigns/{campaign}/settlements/{settlement}"
            async with open_socket(services.gateways[0].url) as client:
                await client.connect(owner.token, [f"campaign:{campaign}"])
                proxy.swallow = lambda chunk: b"PUB campaign." in chunk
                await line.publisher("PATCH", path, {"population": 77}, token=owner.token)
                async with asyncio.timeout(10):
                    await proxy.swallowed.wait()
                services.publisher.kill()
                before = [frame for frame in client.frames if frame["type"] == "event"]
                proxy.swallow = lambda _chunk: False
                await asyncio.to_thread(services.publisher.start)
                killed = await _changed(client, "population")
                await line.publisher("PATCH", path, {"level": 9}, token=owner.token)
                await _changed(client, "level")
        finally:
            services.kill()

    heard = [frame["event"]["payload"].get("changedFields") for frame in client.frames if frame["type"] == "event"]
    assert "population" not in [field for frame in before for field in frame["event"]["payload"]["changedFields"]]
    assert killed["event"]["payload"]["settlementId"] == settlement
    assert heard.count(["population"]) == 1


async def test_every_gateway_delivers_every_offset_once_and_in_order_through_three_broker_kills(own_line: Line) -> None:
    services = own_line.services
    owner = await own_line.sign_up("owner")
    campaign = await own_line.campaign(owner)
    first, second = services.gateways
    async with (
        open_socket(first.url) as one,
        open_socket(second.url) as other,
        connected(services.nats, "publisher") as nc,
    ):
        for client in (one, other):
            await client.connect(owner.token, [f"campaign:{campaign}"])
        load = [asyncio.create_task(_write(nc, campaign, writer)) for writer in range(WRITERS)]
        for number in range(1, 4):
            await one.events(number * 40)
            services.nats.kill()
            await asyncio.to_thread(services.nats.start)
        acknowledged = [offset for offsets in await asyncio.gather(*load) for offset in offsets]
        logs = [await _until(client, max(acknowledged)) for client in (one, other)]

    for log in logs:
        assert log == sorted(set(log)), "twice, or out of order"
        assert set(acknowledged) <= set(log), "lost"
    assert len(acknowledged) == WRITERS * EVENTS_EACH
    assert logs[0][-len(acknowledged) :] == logs[1][-len(acknowledged) :]


async def _write(nc: Client, campaign: str, writer: int) -> list[int]:
    """Publish one after the other, each until it is acknowledged. Returns their offsets."""
    offsets = []
    for number in range(EVENTS_EACH):
        event = SettlementUpdated(
            campaign_id=campaign, settlement_id=f"w{writer}-{number}", operation="create", changed_fields=()
        )
        one = Envelope(event, Metadata(source="load"))
        offsets.append(await broker.publish(nc, one.subject, one.encode(), message_id=one.id, attempt_timeout_s=0.5))
    return offsets


async def _until(client: SocketClient, offset: int) -> list[int]:
    """Every offset the client was given, through `offset`."""
    while not any(frame.get("offset") == offset for frame in client.frames):
        await client.next("event")
    return [frame["offset"] for frame in client.frames if frame["type"] == "event"]


async def _changed(client: SocketClient, field: str) -> dict[str, Any]:
    """The next event that says that `field` changed."""
    while True:
        frame = await client.next("event")
        if field in frame["event"]["payload"].get("changedFields", []):
            return frame

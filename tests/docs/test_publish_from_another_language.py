"""The how-to for publishers in other languages: its commands are run as written, and their events heard."""

import asyncio
from pathlib import Path

import pytest

from beaconfire.local_services import Services
from beaconfire.nats_server import NatsServer
from beaconfire.publishers_file import read_publishers
from tests.client import open_socket
from tests.docs.imitated_up import running_up, script_of
from tests.docs.tree import RUN_S, Tree, blocks
from tests.e2e.conftest import Line, _line, _running
from tests.security.raw_nats import raw_nats

__all__ = ["_line", "_running"]

PAGE = "docs/howto/publish_from_another_language.md"


def script(services: Services, campaign: str) -> str:
    """The page's commands, with the addresses and the campaign of this test for those of `make up`."""
    text = script_of(PAGE, services)
    for before, after in (" ", " "), ('"', '"'), (".", "."):
        text = text.replace(f"{before}c1{after}", f"{before}{campaign}{after}")
    return text


@pytest.mark.timeout(2 * RUN_S)
async def test_each_of_the_ways_to_publish_on_the_page_reaches_a_socket(line: Line, tmp_path: Path) -> None:
    """The page shows five ways for an event of ours, and three for a type that only the catalogue has."""
    owner = await line.sign_up("owner")
    campaign = await line.campaign(owner)
    room = f"campaign:{campaign}"
    tree = Tree(tmp_path)
    gateway = line.services.gateways[0].url
    async with open_socket(gateway) as client:
        before = (await client.connect(owner.token, [room]))["cursor"]
    with running_up(tree.root, line.services):
        said = await asyncio.to_thread(tree.fresh_shell, script(line.services, campaign))  # for minutes, if Go is new
    async with open_socket(gateway) as client:
        types = {room: ["settlement_updated", "parcel.moved"]}
        await client.connect(owner.token, [room], types=types, cursor=before)
        frames = await client.events(8)
    heard = [frame["event"] for frame in frames if frame["event"]["type"] == "settlement_updated"]
    parcels = [frame for frame in frames if frame["event"]["type"] == "parcel.moved"]

    # An event over HTTP may be relayed later than one that follows it over NATS.
    said_by = sorted((event["metadata"]["source"], event["payload"]["changedFields"]) for event in heard)
    assert said_by == [
        ("example-go", ["level"]),
        ("example-node", ["level"]),
        ("my-service", ["level"]),
        ("my-service", ["level"]),
        ("my-service", ["level", "population"]),
    ]
    assert {event["payload"]["settlementId"] for event in heard} == {"s1"}
    assert [frame["rooms"] for frame in parcels] == [[room, f"{room}/parcel:p1"]] * 3
    places = {frame["event"]["payload"]["place"]: frame["event"]["metadata"]["source"] for frame in parcels}
    assert places == {"dock 4": "parcels", "dock 5": "parcels", "dock 6": "cli"}
    assert said.count("PONG") == 2
    assert "There are no dead letters" in said


async def test_file_of_the_page_gives_the_broker_a_user_with_subjects_and_an_inbox(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    [file] = [block.text for block in blocks(PAGE) if block.language == "yaml"]
    (tmp_path / "publishers.yaml").write_text(file)

    await asyncio.to_thread(nats_server.permit, publishers=read_publishers(tmp_path / "publishers.yaml"))

    async with raw_nats(nats_server, "weather") as nats:
        assert await nats.publish("campaign.c1.settlement.s1") == ""
        assert await nats.subscribe("_INBOX_weather.x") == ""
        assert "Permissions Violation" in await nats.publish("campaign.c1.world_time")

"""A client of the issue tracker that Beaconfire replaces, which speaks the plain protocol, through the whole set."""

import json
from typing import Any

from nats.aio.client import Client

from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_plain
from tests.conftest import connected
from tests.e2e.conftest import Line

EVENTS = {
    "workspace.w-plain.team.m1.issue.i1": ("issue.updated", {"changes": {"status": "done"}}),
    "workspace.w-plain.project.p1": ("project.updated", {"changes": {"name": "Next"}}),
    "workspace.w-plain.cycle.y1": ("cycle.updated", {"changes": {"name": "Next"}}),
}
ROOMS = ["workspace:w-plain", "team:m1", "issue:i1", "project:p1", "cycle:y1"]


async def publish(line: Line, subject: str, type_: str, payload: dict[str, Any]) -> None:
    """Publish as a service in any language does."""
    metadata = {"timestamp": "2026-11-30T10:00:00Z", "source": "tracker"}
    body = {"type": type_, "version": 1, "payload": payload, "metadata": metadata}
    async with connected(line.services.nats, "publisher") as nc:
        await nc.publish(subject, json.dumps(body).encode())
        await nc.flush()


async def subscribe(client: SocketClient, rooms: list[str]) -> dict[str, Any]:
    await client.socket.send_json({"type": "subscribe", "payload": {"rooms": rooms}})
    answers: dict[str, Any] = (await client.next("subscribe.ack"))["payload"]["rooms"]
    return answers


async def test_tracker_client_hears_each_kind_of_room_that_its_list_names(line: Line, nc: Client) -> None:
    """The rooms have short names, as in the tracker. An event comes once, although several of its rooms are named."""
    person, stranger = await line.sign_up("tracker"), await line.sign_up("stranger")
    await line.grant(nc, "workspace:w-plain", person, Role.VIEWER)
    for subject, (type_, payload) in EVENTS.items():  # auth learns the parents of rooms from what is published
        await publish(line, subject, type_, payload)
    user_room = f"user:{person.id}"
    async with (
        open_plain(line.services.gateways[0].url, person.token) as client,
        open_plain(line.services.gateways[1].url, stranger.token) as other,
    ):
        rooms = [*ROOMS, user_room]
        while not all(one["success"] for one in (await subscribe(client, rooms)).values()):
            pass
        refused = await subscribe(other, rooms)
        for subject, (type_, payload) in EVENTS.items():
            await publish(line, subject, type_, payload)
        await publish(line, f"user.{person.id}.notification.n1", "notification.new", {"id": "n1"})
        heard = [(await client.next(*dict(EVENTS.values()), "notification.new"))["type"] for _ in range(4)]
        left = [room for room in ROOMS if room != "cycle:y1"]
        await client.socket.send_json({"type": "unsubscribe", "payload": {"rooms": left}})
        await client.next("unsubscribe.ack")
        for subject, (type_, payload) in EVENTS.items():
            await publish(line, subject, type_, payload)
        after = (await client.next(*dict(EVENTS.values())))["type"]

    assert heard == [*dict(EVENTS.values()), "notification.new"]
    assert {one["success"] for one in refused.values()} == {False}
    assert after == "cycle.updated"

"""The whole line: a change over HTTP, its event in the stream, the frame at a socket of another process."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.catalogue.examples import example_payload
from beaconfire_kit.catalogue.from_classes import event_type_of
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event, events
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import parse_subject
from tests.client import open_socket
from tests.conftest import connected
from tests.e2e.conftest import Line
from tests.e2e.staged import next_of, next_update
from tests.people import Person


async def test_settlement_changed_over_http_reaches_sockets_of_both_gateways_with_its_metadata(line: Line) -> None:
    owner, viewer = await line.sign_up("owner"), await line.sign_up("viewer")
    campaign = await line.campaign(owner)
    settlement = await line.settlement(owner, campaign)
    await line.add_member(owner, campaign, viewer, "viewer")
    first, second = line.services.gateways
    async with open_socket(first.url) as one, open_socket(second.url) as other:
        for client in (one, other):
            await client.connect(viewer.token, [f"campaign:{campaign}"])
        await line.publisher(
            "PATCH",
            f"/v1/campaigns/{campaign}/settlements/{settlement}",
            {"level": 4},
            token=owner.token,
            X_Correlation_Id="req-42",
        )
        frames = [await next_update(client) for client in (one, other)]

    assert frames[0] == frames[1]
    assert frames[0]["rooms"] == [f"campaign:{campaign}", f"campaign:{campaign}/settlement:{settlement}"]
    event = frames[0]["event"]
    assert (event["payload"]["operation"], event["payload"]["changedFields"]) == ("update", ["level"])
    assert event["metadata"]["userId"] == owner.id
    assert (event["metadata"]["source"], event["metadata"]["correlationId"]) == ("api", "req-42")


async def test_each_change_is_logged_with_its_correlation_id_and_outcome_and_reads_are_not(line: Line) -> None:
    owner, viewer = await line.sign_up("owner"), await line.sign_up("viewer")
    campaign = await line.campaign(owner)
    path, members = f"/v1/campaigns/{campaign}/settlements", f"/auth/roots/campaign:{campaign}/members"
    await line.publisher("GET", path, token=owner.token, X_Correlation_Id="read-1")
    await line.publisher("POST", path, {"name": "A place"}, token=owner.token, X_Correlation_Id="change-1")
    who = {"email": viewer.email, "role": "viewer"}
    url = line.services.auth_url + members
    await line.call("POST", url, who, token=owner.token, X_Correlation_Id="change-2")
    made = await _log_line(line.services.publisher.process.log_path, "change-1")
    added = await _log_line(line.services.auth.process.log_path, "change-2")

    assert (made["method"], made["path"], made["status"]) == ("POST", path, 201)
    assert (added["method"], added["path"], added["service"]) == ("POST", members, "auth")
    assert "read-1" not in line.services.publisher.process.log_path.read_text()


async def _log_line(log: Path, correlation_id: str) -> dict[str, Any]:
    """The line about the answered request in a service's log, once it is there."""
    async with asyncio.timeout(30):
        while True:
            for text in log.read_text().splitlines():
                if f'"{correlation_id}"' in text and '"answered a request"' in text:
                    return dict(json.loads(text))
            await asyncio.sleep(0.05)


async def test_creator_of_a_campaign_can_subscribe_as_soon_as_the_answer_arrives(line: Line) -> None:
    owner = await line.sign_up("owner")
    async with open_socket(line.services.gateways[1].url) as client:
        await client.connect(owner.token)
        campaign = await line.campaign(owner)
        answer = await client.ask("subscribe", rooms=[f"campaign:{campaign}"])

    assert answer["rooms"] == {f"campaign:{campaign}": {"success": True}}


async def test_rooms_can_be_named_without_their_campaign_and_strangers_are_refused(line: Line) -> None:
    owner, stranger = await line.sign_up("owner"), await line.sign_up("stranger")
    campaign = await line.campaign(owner)
    settlement = await line.settlement(owner, campaign)
    rooms = [f"settlement:{settlement}"]
    async with open_socket(line.services.gateways[0].url) as mine, open_socket(line.services.gateways[1].url) as theirs:
        await theirs.connect(stranger.token)
        await mine.connect(owner.token)
        while not (answer := await mine.ask("subscribe", rooms=rooms))["rooms"][rooms[0]]["success"]:
            pass  # auth learns parents from the stream, a moment behind
        refused = await theirs.ask("subscribe", rooms=[*rooms, "settlement:no-such-thing"])

    assert answer["success"] is True
    codes = {room["error"]["code"] for room in refused["rooms"].values()}
    assert codes == {"forbidden"}


async def test_removed_member_leaves_the_room_on_open_sockets_of_every_gateway(line: Line) -> None:
    owner, editor = await line.sign_up("owner"), await line.sign_up("editor")
    campaign = await line.campaign(owner)
    await line.add_member(owner, campaign, editor, "editor")
    first, second = line.services.gateways
    async with open_socket(first.url) as one, open_socket(second.url) as other:
        for client in (one, other):
            await client.connect(editor.token, [f"campaign:{campaign}"])
        await line.auth("DELETE", f"/auth/roots/campaign:{campaign}/members/{editor.id}", token=owner.token)
        left = [await client.next("room.left") for client in (one, other)]

    assert [frame["reason"] for frame in left] == ["membership_removed"] * 2


async def test_signing_out_everywhere_closes_open_sockets_with_4401(line: Line) -> None:
    body = {"email": "leaving@e2e.example", "password": "correct horse", "name": "leaving"}
    session = await line.auth("POST", "/auth/sign-up", body)
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(session["accessToken"])
        await line.auth("POST", "/auth/sign-out", {"refreshToken": session["refreshToken"], "everywhere": True})
        end = await client.closed()

    assert end.code == 4401


@pytest.mark.parametrize("type_", sorted(events()))
async def test_every_event_of_the_catalogue_reaches_a_socket_in_each_of_its_rooms(
    line: Line, nc: Client, type_: str
) -> None:
    person = await line.sign_up("member")
    event = _addressed_to(events()[type_], person)
    for root in ("campaign:c-every", "workspace:w-every"):
        await line.grant(nc, root, person, Role.VIEWER)
    rooms = [str(room) for room in parse_subject(event.full_subject().removeprefix("ephemeral.")).rooms]
    async with open_socket(line.services.gateways[0].url) as one, open_socket(line.services.gateways[1].url) as other:
        answers = [await one.connect(person.token, rooms), await other.connect(person.token, rooms[-1:])]
        await _publish(line, nc, event)
        frames = [await next_of(client, type_) for client in (one, other)]

    assert all(room["success"] for answer in answers for room in answer["rooms"].values())
    for frame in frames:
        assert frame["rooms"] == rooms
        assert frame["event"]["payload"] == event.model_dump(mode="json")
        assert ("offset" in frame) is not event.ephemeral


async def test_publisher_that_is_a_bare_tcp_connection_reaches_clients_and_its_garbage_does_not(
    line: Line, nc: Client
) -> None:
    person = await line.sign_up("member")
    await line.grant(nc, "campaign:c-raw", person, Role.VIEWER)
    good = {
        "type": "settlement_updated",
        "version": 1,
        "payload": {"campaignId": "c-raw", "settlementId": "s1", "operation": "update", "changedFields": ["level"]},
        "metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "something-else"},
    }
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(person.token, ["campaign:c-raw"])
        bodies = [b"garbage", json.dumps({**good, "version": 9}).encode(), json.dumps(good).encode()]
        await asyncio.to_thread(_raw_nats, line, "campaign.c-raw.settlement.s1", bodies)
        frame = await next_of(client, "settlement_updated")

    assert frame["event"] == {"id": f"EVENTS:{frame['offset']}", **good}
    heard = [one["event"]["type"] for one in client.frames if one["type"] == "event"]
    assert [type_ for type_ in heard if type_ != "member_changed"] == ["settlement_updated"]  # the grant may be heard


def _raw_nats(line: Line, subject: str, bodies: list[bytes]) -> None:
    """Speak NATS by hand."""
    password = line.services.nats.passwords["publisher"]
    hello = {"user": "publisher", "pass": password, "verbose": False, "pedantic": False, "lang": "none", "version": "0"}
    with socket.create_connection(("127.0.0.1", line.services.nats.port), timeout=5) as raw:
        assert raw.recv(4096).startswith(b"INFO ")
        raw.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
        for body in bodies:
            raw.sendall(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        raw.sendall(b"PING\r\n")
        assert raw.recv(4096).startswith(b"PONG")


def _addressed_to(cls: type[Event], person: Person) -> Event:
    """An example of the event that the person may hear, and that leaves its membership as it is."""
    mine = {
        "campaignId": "c-every",
        "workspaceId": "w-every",
        "rootKind": "campaign",
        "rootId": "c-every",
        "userId": person.id,
        "role": "viewer",
        "issuedBefore": "2020-01-01T00:00:00Z",
    }
    payload = example_payload(event_type_of(cls))
    assert payload is not None
    return cls.model_validate({**payload, **{name: value for name, value in mine.items() if name in payload}})


async def _publish(line: Line, nc: Client, event: Event) -> None:
    """Publish it as the service whose event it is."""
    envelope = Envelope(event, Metadata(source="a-service"))
    if event.ephemeral:
        await nc.publish(envelope.subject, envelope.encode())
        return
    user = "auth" if event.type in ("member_changed", "access_revoked") else "publisher"
    async with connected(line.services.nats, user) as connection:
        await broker.publish(connection, envelope.subject, envelope.encode(), message_id=envelope.id)

"""`beaconfire why`: one situation after the other on a running `up`, each with the right verdict."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client
from pydantic import SecretStr
from sqlalchemy import insert

from beaconfire import outboxes, stream_search, tailing
from beaconfire.backend_client import Named, backend_client
from beaconfire.data_folder import OPERATOR_TOKEN, DataFolder
from beaconfire_kit import broker
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.roles import Role
from beaconfire_kit.settings import Settings
from beaconfire_publisher.store import OUTBOX
from tests.client import SocketClient, open_socket
from tests.gateway.conftest import settlement
from tests.tools.conftest import Call, Said
from tests.tools.terminal import free_ports, terminal

WAIT_S = 20.0


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of an `up` that runs, with two gateways."""
    folder = tmp_path_factory.mktemp("up")
    data = folder / "data"
    with terminal(
        folder, "up", "--port", str(free_ports()), "--data", str(data), "--no-demo", "--only", "campaign"
    ) as up:
        up.wait_for("Open")
        yield data


@dataclass(frozen=True)
class User:
    id: str
    email: str
    token: str


class Deployment:
    """The running `up`, as its users, its publishers and its operator see it."""

    def __init__(self, data: Path, call: Call, http: aiohttp.ClientSession, nc: Client) -> None:
        self.data = data
        self.nc = nc
        self.running = DataFolder(data).running()
        self._call = call
        self._http = http
        self._backend = backend_client(DataFolder(data), None, None, {"campaign.*.member.*", "user.*.access"})

    async def sign_up(self) -> User:
        email = f"{uuid.uuid4().hex[:12]}@why.example"
        body = {"email": email, "password": "correct horse", "name": "Vera"}
        async with self._http.post(f"{self.running.auth_url}/auth/sign-up", json=body) as answer:
            made = await answer.json()
        return User(made["user"]["id"], email, made["accessToken"])

    async def campaign(self, *members: User, role: Role = Role.VIEWER) -> str:
        """A new root with these members, whose membership is in the stream."""
        campaign_id = uuid.uuid4().hex[:12]
        owner = await self.sign_up()
        await asyncio.to_thread(self._backend.create_root, f"campaign:{campaign_id}", Named(owner.id))
        for member in members:
            await self.put(campaign_id, member, role)
        return campaign_id

    async def put(self, campaign_id: str, user: User, role: Role = Role.VIEWER) -> None:
        await asyncio.to_thread(self._backend.put_member, f"campaign:{campaign_id}", Named(user.id), role)
        await self._stored(f"campaign.{campaign_id}.member.{user.id}", 1)

    async def remove(self, campaign_id: str, user: User) -> None:
        await asyncio.to_thread(self._backend.remove_member, f"campaign:{campaign_id}", Named(user.id))
        await self._stored(f"campaign.{campaign_id}.member.{user.id}", 2)

    async def revoke(self, user: User) -> None:
        await asyncio.to_thread(self._backend.revoke, Named(user.id), None)
        await self._stored(f"user.{user.id}.access", 1)

    async def publish(self, campaign_id: str, **metadata: Any) -> int:
        envelope = Envelope(settlement("s1", campaign_id), Metadata(source="api", **metadata))
        return await broker.publish(self.nc, envelope.subject, envelope.encode(), message_id=envelope.id)

    @asynccontextmanager
    async def client(self, user: User, *rooms: str, **options: Any) -> AsyncIterator[SocketClient]:
        async with open_socket(self.running.address) as client:
            await client.connect(user.token, rooms, **options)
            yield client

    async def run(self, *arguments: str) -> Said:
        """Run a command, while the clients of the test stay connected."""
        return await asyncio.to_thread(self._call, *arguments, "--data", str(self.data))

    async def why(self, user: User, event: object, *more: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the answer about the first event."""
        said = await self.run("why", user.email, str(event), "--json", *more)
        return said.exit_code, json.loads(said.text)["events"][0]

    async def verdict(self, user: User, event: object) -> tuple[int, str]:
        code, answer = await self.why(user, event)
        return code, str(answer["verdict"])

    async def _stored(self, subject: str, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len([one async for one in stream_search.along(self.nc, subject, most=count)]) < count:
                pass


@pytest.fixture(name="up")
async def _up(data: Path, call: Call) -> AsyncIterator[Deployment]:
    async with aiohttp.ClientSession() as http, connected(data, "publisher") as nc:
        yield Deployment(data, call, http, nc)


@asynccontextmanager
async def connected(data: Path, user: str) -> AsyncIterator[Client]:
    folder = DataFolder(data)
    settings = Settings(
        nats_url=folder.running().nats_url, nats_user=user, nats_password=SecretStr(folder.passwords()[user])
    )
    nc = await broker.connect(settings, "test", on_closed=lambda: None)
    try:
        yield nc
    finally:
        await broker.close(nc)


def rows_of(campaign_id: str, count: int) -> Sequence[dict[str, Any]]:
    """Rows of an outbox, of one root."""
    envelopes = [Envelope(settlement("s1", campaign_id), Metadata(source="api")) for _ in range(count)]
    return [
        {"event_id": one.message_id, "subject": one.subject, "body": one.encode(), "created_at": datetime.now(UTC)}
        for one in envelopes
    ]


async def write(data: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows into the publisher's outbox, as a commit does."""
    database = Database(f"sqlite+aiosqlite:///{data / 'publisher.db'}")
    async with database.writing() as tx:
        await tx.execute(insert(OUTBOX), list(rows))
    await database.close()


async def test_an_event_that_a_session_got_is_delivered(up: Deployment) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    async with up.client(viewer, f"campaign:{campaign}") as client:
        offset = await up.publish(campaign, correlation_id="delivered-1")
        await client.events(2)  # the rules-engine publishes another one

        code, answer = await up.why(viewer, offset)
        said = await up.run("why", viewer.email, "delivered-1", "--json")
        readable = await up.run("why", viewer.id, str(offset))

    by_correlation = json.loads(said.text)["events"]
    assert (code, answer["verdict"], answer["delivered"]) == (0, "delivered", "yes")
    assert [one["sessionId"] for one in answer["sessions"]] == [client.ack["sessionId"]]
    assert [(one["type"], one["verdict"]) for one in by_correlation] == [
        ("settlement_updated", "delivered"),
        ("state_invalidated", "delivered"),
    ]
    assert (readable.exit_code, "Delivered: It was sent to the session" in readable.text) == (0, True)


async def test_a_client_that_was_away_and_resumed_got_the_event_late(up: Deployment) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    async with up.client(viewer, f"campaign:{campaign}") as client:
        cursor = client.ack["cursor"]
    offset = await up.publish(campaign)
    away = await up.verdict(viewer, offset)
    async with up.client(viewer, f"campaign:{campaign}", cursor=cursor) as client:
        await client.next("event")

        back = await up.verdict(viewer, offset)

    assert away == (5, "not_connected")
    assert back == (0, "delivered_later")


async def test_membership_decides_who_gets_an_event(up: Deployment) -> None:
    stranger, late, former, removed, revoked = [await up.sign_up() for _ in range(5)]
    campaign = await up.campaign(former, removed, revoked)
    await up.remove(campaign, former)
    await up.revoke(revoked)
    offset = await up.publish(campaign)
    await up.put(campaign, late)
    await up.remove(campaign, removed)
    verdicts = [await up.verdict(one, offset) for one in (stranger, late, former, removed, revoked)]

    assert verdicts == [
        (3, "never_a_member"),
        (3, "member_later"),
        (3, "removed_before"),
        (5, "removed_since"),
        (3, "revoked"),
    ]


async def test_audience_types_and_rooms_filter_an_event(up: Deployment) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    room = f"campaign:{campaign}"
    for_owners = await up.publish(campaign, audience=("owner",))
    absent = await up.verdict(viewer, for_owners)
    async with up.client(viewer, room, types={room: ["world_time_changed"]}):
        other_types = await up.verdict(viewer, await up.publish(campaign))
    async with up.client(viewer, f"{room}/settlement:s2"):
        code, answer = await up.why(viewer, await up.publish(campaign))
    async with up.client(viewer, room):
        other_audience = await up.verdict(viewer, await up.publish(campaign, audience=("owner",)))
    earlier = await up.publish(campaign)
    async with up.client(viewer, room):
        joined_later = await up.verdict(viewer, earlier)

    assert absent == other_audience == (3, "other_audience")
    assert other_types == (3, "other_types")
    assert (code, answer["verdict"]) == (3, "other_rooms")
    assert f"but to {room}/settlement:s2" in answer["says"]
    assert joined_later == (3, "joined_later")


async def test_a_client_that_was_told_to_reload_did_not_get_the_event(up: Deployment) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    offset = await up.publish(campaign)
    async with up.client(viewer, f"campaign:{campaign}", cursor="another:7") as client:
        await client.next("resync")

        assert await up.verdict(viewer, offset) == (3, "resynced")


async def test_an_invalid_event_was_set_aside(up: Deployment) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    async with up.client(viewer, f"campaign:{campaign}"):
        body = json.dumps({"id": "wrong-1", "type": "settlement_updated", "version": 1, "payload": {}, "metadata": {}})
        await broker.publish(up.nc, f"campaign.{campaign}.settlement.s1", body.encode(), message_id="wrong-1")
        code, answer = await up.why(viewer, "wrong-1")

    assert (code, answer["verdict"]) == (3, "set_aside")
    assert "invalid" in answer["says"]


async def test_an_event_waits_in_the_outbox_behind_another(up: Deployment) -> None:
    viewer = await up.sign_up()
    rows = rows_of(await up.campaign(viewer), 2)
    os.kill(up.running.processes["publisher"], signal.SIGSTOP)
    try:
        await write(up.data, rows)
        code, answer = await up.why(viewer, rows[1]["event_id"])
    finally:
        os.kill(up.running.processes["publisher"], signal.SIGCONT)

    assert (code, answer["verdict"], answer["delivered"]) == (4, "waits_in_outbox", "later")
    assert f"1 event of its root waits before it; the first is {rows[0]['event_id']}" in answer["says"]


async def test_the_broker_refused_an_event(up: Deployment) -> None:
    viewer = await up.sign_up()
    row = {**rows_of("c1", 1)[0], "subject": "nosuch.n1.settlement.s1"}
    await write(up.data, [row])
    url = f"sqlite+aiosqlite:///{up.data / 'publisher.db'}"
    async with asyncio.timeout(WAIT_S):
        while (await outboxes.find(url, event_id=row["event_id"]))[0].refused is None:
            pass
    code, answer = await up.why(viewer, row["event_id"])

    assert (code, answer["verdict"]) == (3, "refused_by_broker")
    assert f"--resend {row['event_id']}" in answer["advice"]


async def test_what_is_no_event_or_unknown_is_said_to_be(up: Deployment) -> None:
    viewer = await up.sign_up()

    assert await up.verdict(viewer, "no-such-id") == (5, "not_found")
    assert await up.verdict(viewer, 10**9) == (5, "not_found")
    assert await up.verdict(viewer, 1) == (3, "no_event")
    unknown_user = await up.run("why", "nobody@why.example", "1")
    other_epoch = await up.run("why", viewer.email, "0123456789ab:1")
    assert (unknown_user.exit_code, "auth knows no user" in unknown_user.text) == (1, True)
    assert (other_epoch.exit_code, "in the epoch" in other_epoch.text) == (1, True)


async def test_event_user_and_sessions_show_what_why_rests_on(up: Deployment) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    offset = await up.publish(campaign)
    async with up.client(viewer, f"campaign:{campaign}") as client:
        event = json.loads((await up.run("event", str(offset), "--json")).text)["events"][0]
        user = await up.run("user", viewer.email)
        as_json = json.loads((await up.run("user", "show", viewer.id, "--json")).text)
        listed = json.loads((await up.run("sessions", "--room", f"campaign:{campaign}", "--json")).text)
        table = await up.run("sessions", "--user", viewer.email)
    none = await up.run("sessions", "--user", viewer.id)
    missing = await up.run("event", "no-such-id")

    made = [one async for one in stream_search.along(up.nc, f"campaign.{campaign}.member.{viewer.id}", most=1)]
    over_http = await up.run("event", str(made[0].event["id"]), "--service-ops", up.running.auth_ops_url, "--json")
    membership = json.loads(over_http.text)["events"][0]

    assert (membership["offset"], membership["type"]) == (made[0].offset, "member_changed")
    assert "By auth" in membership["steps"][0]["says"]
    assert (event["offset"], event["type"], event["rooms"][0]) == (offset, "settlement_updated", f"campaign:{campaign}")
    assert event["event"]["payload"]["settlementId"] == "s1"
    assert f"viewer of campaign:{campaign}" in user.text
    assert as_json["roots"] == {f"campaign:{campaign}": "viewer"}
    assert [one["sessionId"] for one in listed["sessions"]] == [client.ack["sessionId"]]
    assert client.ack["sessionId"] in table.text
    assert none.text == "There is no such session.\n"
    assert missing.exit_code == 1


@pytest.mark.parametrize("query", ["offset=x", "id=%00", "correlation=a%20b"])
async def test_a_question_about_an_outbox_that_no_event_can_answer_is_refused(up: Deployment, query: str) -> None:
    async with aiohttp.ClientSession() as http:
        answer = await http.get(f"{up.running.auth_ops_url}/api/v1/outbox/events?{query}")

    assert answer.status == 400


async def test_a_tail_prints_events_as_they_come_and_needs_the_operator_token(
    up: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = await up.campaign()
    folder, shown = DataFolder(up.data), asyncio.Queue[dict[str, Any]]()
    token, query = (
        folder.passwords()[OPERATOR_TOKEN],
        [("room", f"campaign:{campaign}"), ("type", "settlement_updated")],
    )
    tail = asyncio.create_task(tailing.tail(up.running.gateway_ops_urls, query, token, shown.put_nowait))
    while shown.empty():  # the tail has begun at some point
        offset = await up.publish(campaign)
    tail.cancel()
    line = await shown.get()
    refused = await up.run("tail", "--operator-token", "wrong")
    tailing.print_readable(line)

    assert line["rooms"] == [f"campaign:{campaign}", f"campaign:{campaign}/settlement:s1"]
    assert line["offset"] <= offset
    assert (refused.exit_code, "operator token is missing or wrong" in refused.text) == (1, True)
    assert f"in campaign:{campaign} campaign:{campaign}/settlement:s1" in capsys.readouterr().out


async def test_an_event_that_left_the_stream_can_no_longer_come(up: Deployment, data: Path) -> None:
    viewer = await up.sign_up()
    campaign = await up.campaign(viewer)
    offset = await up.publish(campaign)
    async with connected(data, "setup") as setup:
        await broker.call_api(setup, "STREAM.PURGE.EVENTS", {"seq": offset + 1})

    code, answer = await up.why(viewer, offset)

    assert (code, answer["verdict"]) == (3, "aged_out")
    assert "by age or size" in str(answer["steps"])

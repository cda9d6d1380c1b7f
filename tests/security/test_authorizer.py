"""An application's authorizer decides who hears its roots: the example, as a process that can be frozen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.app import Tuning
from beaconfire_gateway.sessions.authorization import AskingPolicy
from tests.authorizers import RealAuthorizer, running_example
from tests.client import SocketClient, open_socket
from tests.databases import on_both_databases
from tests.people import Person
from tests.security.whole import Whole, running_whole

pytestmark = on_both_databases

ROOM = "workspace:w1"
SHORT = AskingPolicy(lease_s=3.0, renew_after_s=0.3, renew_every_s=0.1, retry_after_s=0.2)
"""A lease is long enough for a question that runs into auth's limit of a second."""


class World:
    def __init__(self, whole: Whole, authorizer: RealAuthorizer, alice: Person) -> None:
        self.whole = whole
        self.authorizer = authorizer
        self.alice = alice

    def allow(self, role: str | None, *, version: int) -> None:
        self.authorizer.allow({ROOM: {self.alice.id: role}} if role else {}, version=version)

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[SocketClient]:
        async with open_socket(self.whole.gateways[0].url) as client:
            ack = await client.connect(self.alice.token, [ROOM, f"user:{self.alice.id}"])
            assert all(answer["success"] for answer in ack["rooms"].values()), ack
            yield client

    async def answer(self, room: str = ROOM) -> str:
        """How a new client is answered: `joined`, or the code of the error."""
        async with open_socket(self.whole.gateways[0].url) as client:
            told = (await client.connect(self.alice.token, [room, f"user:{self.alice.id}"]))["rooms"]
        assert told[f"user:{self.alice.id}"]["success"]
        return "joined" if told[room]["success"] else str(told[room]["error"]["code"])

    async def revoke(self, *, version: int = 0) -> None:
        """Revoke as the application's backend does."""
        wanted = {"service": "backend", "publish": ["workspace.*.member.*"]}
        issued = await self.whole.auth.operate("POST", "service-tokens", wanted)
        body = {"userId": self.alice.id, "root": ROOM, "authorizerVersion": version}
        answer = await self.whole.auth.call("POST", "/auth/revocations", body, token=issued.body["token"])
        assert answer.status == 200, answer


@asynccontextmanager
async def running_world(server: NatsServer, folder: Path, tuning: Tuning | None = None) -> AsyncIterator[World]:
    with running_example(folder) as authorizer:
        await authorizer.until_it_answers()
        settings = {"authorizers": (authorizer.setting("workspace"),)}
        async with running_whole(server, folder, auth=settings, tuning=tuning) as whole:
            yield World(whole, authorizer, await whole.sign_up("alice"))


@pytest.fixture(name="world")
async def _world(stream: NatsServer, tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(stream, tmp_path) as world:
        yield world


async def test_authorizer_lets_a_user_in_and_a_revocation_puts_the_user_out_at_once(world: World) -> None:
    before = await world.answer()
    world.allow("editor", version=2)
    async with world.joined() as client:
        world.allow(None, version=3)
        await world.revoke(version=3)
        left = await client.next("room.left")
        pong = await client.ask("ping")

    assert before == "forbidden"
    assert (left["room"], left["reason"]) == (ROOM, "membership_removed")
    assert pong["success"]
    assert await world.answer() == "forbidden"


async def test_role_that_the_authorizer_lowers_is_told_after_a_revocation(world: World) -> None:
    world.allow("editor", version=2)
    async with world.joined() as client:
        world.allow("viewer", version=3)
        await world.revoke(version=3)
        changed = await client.next("role.changed")

    assert (changed["root"], changed["role"]) == (ROOM, "viewer")


async def test_revocation_puts_a_user_out_even_if_the_authorizer_is_frozen(world: World) -> None:
    world.allow("editor", version=2)
    async with world.joined() as client:
        world.authorizer.process.freeze()
        await world.revoke()
        left = await client.next("room.left")

    assert (left["room"], left["reason"]) == (ROOM, "lease_expired")


async def test_frozen_authorizer_refuses_new_clients_with_the_true_reason_and_nothing_else(world: World) -> None:
    world.allow("editor", version=2)
    async with world.joined() as client:
        world.authorizer.process.freeze()
        frozen = await world.answer("workspace:w2")
        pong = await client.ask("ping")
        world.authorizer.process.thaw()
        async with asyncio.timeout(20):
            while (thawed := await world.answer("workspace:w2")) == "unavailable":
                pass

    assert frozen == "unavailable"
    assert pong["success"]
    assert thawed == "forbidden"
    assert "room.left" not in [frame["type"] for frame in client.frames]


async def test_open_sessions_stay_for_a_lease_while_the_authorizer_is_frozen_and_can_return(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_world(stream, tmp_path, Tuning(asking=SHORT)) as world:
        world.allow("editor", version=2)
        async with world.joined() as client:
            world.authorizer.process.freeze()
            left = await client.next("room.left")
            world.authorizer.process.thaw()
            async with asyncio.timeout(20):
                while True:
                    told = (await client.ask("subscribe", rooms=[ROOM]))["rooms"][ROOM]
                    if told["success"] or told["error"]["code"] != "unavailable":
                        break

    assert (left["room"], left["reason"]) == (ROOM, "lease_expired")
    assert [frame["room"] for frame in client.frames if frame["type"] == "room.left"] == [ROOM]
    assert told["success"]


async def test_lease_is_renewed_as_soon_as_the_authorizer_is_back(stream: NatsServer, tmp_path: Path) -> None:
    async with running_world(stream, tmp_path, Tuning(asking=SHORT)) as world:
        world.allow("editor", version=2)
        async with world.joined() as client:
            world.authorizer.process.freeze()
            assert await world.answer("workspace:w2") == "unavailable"
            world.allow("viewer", version=3)
            world.authorizer.process.thaw()
            changed = await client.next("role.changed")

    assert changed["role"] == "viewer"
    assert "room.left" not in [frame["type"] for frame in client.frames]


async def test_publisher_honours_the_authorizer_and_answers_503_while_it_is_frozen(
    stream: NatsServer, tmp_path: Path
) -> None:
    with running_example(tmp_path) as authorizer:
        await authorizer.until_it_answers()
        settings = {"authorizers": (authorizer.setting("campaign"),)}
        async with running_whole(stream, tmp_path, auth=settings) as whole:
            owner, alice = await whole.sign_up("owner"), await whole.sign_up("alice")
            campaign = await whole.campaign(owner)
            path, as_alice = f"/v1/campaigns/{campaign}", whole.api(alice.token)
            before = await as_alice.patch(path, {"name": "Changed"})
            authorizer.allow({f"campaign:{campaign}": {alice.id: "editor"}}, version=2)
            allowed = await as_alice.patch(path, {"name": "Changed"})
            authorizer.allow({}, version=3)
            authorizer.process.freeze()
            other = await as_alice.get(f"/v1/campaigns/{campaign[:-1]}x")
            own = await whole.api(owner.token).get(path)

    assert [before.status, allowed.status] == [403, 200]
    assert other.error == (503, "unavailable")
    assert own.status == 200

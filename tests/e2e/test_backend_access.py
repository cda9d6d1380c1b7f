"""What a backend changes with a service token is felt on open sockets at once: real broker, auth and two gateways."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import AuthorizeRequest, Newcomer
from tests.asking import authorize
from tests.auth.conftest import Answer
from tests.auth.roots import move, push
from tests.client import Closed, SocketClient, open_socket
from tests.conftest import connected
from tests.outside import Outside, running_outside
from tests.security.whole import Whole, running_whole

PATTERNS = ["workspace.*.member.*", "campaign.*.member.*", "user.*.access"]


@dataclass
class Running:
    """Everything that runs, and a backend's token."""

    whole: Whole
    outside: Outside
    backend: str

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        answer = await self.whole.auth.call(method, path, body, token=self.backend)
        assert answer.status < 300, answer
        return answer


@pytest.fixture(name="running")
async def _running(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Running]:
    async with (
        running_outside() as outside,
        running_whole(stream, tmp_path, gateways=2, everywhere=outside.settings()) as whole,
    ):
        issued = await whole.auth.operate("POST", "service-tokens", {"service": "backend", "publish": PATTERNS})
        yield Running(whole, outside, issued.body["token"])


async def joined(client: SocketClient, token: str, room: str) -> None:
    ack = await client.connect(token, [room])
    assert ack["rooms"][room]["success"], ack


async def event_of(client: SocketClient, room: str) -> dict[str, Any]:
    """The next event of a room. That the client itself became a member may come before it."""
    while room not in (event := await client.next("event"))["rooms"]:
        pass
    return event


async def test_workspace_of_a_backend_is_heard_by_a_member_who_was_put_before_connecting(running: Running) -> None:
    """The workspace root of our own, which nobody could become the first member of before."""
    await running.call("POST", "/auth/roots", {"root": "workspace:w1", "owner": {"issuer": "acme", "sub": "alice"}})
    token = running.outside.token("alice", name="Alice", email="alice@id.example", email_verified=True)
    async with open_socket(running.whole.gateways[0].url) as client:
        await joined(client, token, "workspace:w1")
        await running.call("PUT", "/auth/roots/workspace:w1/members/acme-bob", {"role": "viewer"})
        event = await event_of(client, "workspace:w1/member:acme-bob")
    members = (await running.call("GET", "/auth/roots/workspace:w1/members")).body["members"]

    assert event["event"]["metadata"]["source"] == "backend"
    assert [(one["name"], one["email"], one["placeholder"]) for one in members] == [
        ("Alice", "alice@id.example", False),
        ("acme-bob", "acme-bob@acme.invalid", True),
    ]


async def test_root_of_another_product_is_managed_by_its_backend(running: Running, stream: NatsServer) -> None:
    """A kind that only the catalogue declares: its first member hears an event, and nothing after the removal."""
    await push(stream, "depot")
    patterns = ["depot.*.member.*"]
    issued = await running.whole.auth.operate("POST", "service-tokens", {"service": "depots", "publish": patterns})
    running.backend = issued.body["token"]
    await running.call("POST", "/auth/roots", {"root": "depot:d1", "owner": {"issuer": "acme", "sub": "alice"}})
    async with open_socket(running.whole.gateways[0].url) as client, connected(stream, "publisher") as nc:
        await joined(client, running.outside.token("alice"), "depot:d1")
        await move(nc, "depot", "d1", "n1")
        event = await event_of(client, "depot:d1/note:n1")
        await running.call("DELETE", "/auth/roots/depot:d1/members/acme-alice")
        left = await client.next("room.left")

    assert (event["event"]["type"], event["rooms"][0]) == ("parcel.moved", "depot:d1")
    assert (left["room"], left["reason"]) == ("depot:d1", "membership_removed")


async def test_placeholder_is_taken_over_by_the_first_verified_token_only(running: Running, stream: NatsServer) -> None:
    """A sign-up with its address and a service with a broker password get nothing of the placeholder."""
    await running.call("PUT", "/auth/roots/workspace:w1/members/acme-bob", {"role": "owner"})
    sign_up = {"email": "acme-bob@acme.invalid", "password": "correct horse", "name": "Bob"}
    taken = await running.whole.auth.call("POST", "/auth/sign-up", sign_up)
    sign_in = {"email": "acme-bob@acme.invalid", "password": ""}
    guessed = await running.whole.auth.call("POST", "/auth/sign-in", sign_in)
    question = AuthorizeRequest(user_id="acme-bob", rooms=("workspace:w1",))
    async with connected(stream, "gateway") as nc:
        forged = await authorize(nc, question.model_copy(update={"newcomer": Newcomer(token="no token")}))
        real = question.model_copy(update={"newcomer": Newcomer(token=running.outside.token("bob", name="Bob"))})
        honest = await authorize(nc, real)
    me = await running.whole.auth.call("GET", "/auth/me", token=running.outside.token("bob"))

    assert (taken.status, guessed.status) == (400, 401)
    assert (forged.revoked, forged.rooms["workspace:w1"].allowed) == (True, False)
    assert honest.rooms["workspace:w1"].allowed
    assert me.body["user"]["name"] == "Bob"


async def test_removed_member_leaves_the_room_on_every_gateway(running: Running) -> None:
    await running.call("POST", "/auth/roots", {"root": "workspace:w1", "owner": {"userId": "acme-alice"}})
    token = running.outside.token("alice")
    async with (
        open_socket(running.whole.gateways[0].url) as one,
        open_socket(running.whole.gateways[1].url) as other,
    ):
        for client in (one, other):
            await joined(client, token, "workspace:w1")
        await running.call("PUT", "/auth/roots/workspace:w1/members/acme-alice", {"role": "viewer"})
        changed = [await client.next("role.changed") for client in (one, other)]
        await running.call("DELETE", "/auth/roots/workspace:w1/members/acme-alice")
        left = [await client.next("room.left") for client in (one, other)]
        again = await one.ask("subscribe", rooms=["workspace:w1"])

    assert [frame["role"] for frame in changed] == ["viewer"] * 2
    assert [(frame["room"], frame["reason"]) for frame in left] == [("workspace:w1", "membership_removed")] * 2
    assert not again["rooms"]["workspace:w1"]["success"]


async def test_deleted_root_is_left_by_all_its_members(running: Running) -> None:
    members = [{"root": "workspace:w1", "userId": f"acme-{name}", "role": "viewer"} for name in ("alice", "bob")]
    await running.call("POST", "/auth/members/bulk", {"members": members})
    async with (
        open_socket(running.whole.gateways[0].url) as alice,
        open_socket(running.whole.gateways[1].url) as bob,
    ):
        await joined(alice, running.outside.token("alice"), "workspace:w1")
        await joined(bob, running.outside.token("bob"), "workspace:w1")
        await running.call("DELETE", "/auth/roots/workspace:w1")
        left = [(await client.next("room.left"))["room"] for client in (alice, bob)]

    assert left == ["workspace:w1", "workspace:w1"]


async def test_disconnect_closes_all_sockets_of_the_user_alone_and_the_token_still_works(running: Running) -> None:
    alice, bob = running.outside.token("alice"), running.outside.token("bob")
    async with (
        open_socket(running.whole.gateways[0].url) as one,
        open_socket(running.whole.gateways[1].url) as other,
        open_socket(running.whole.gateways[1].url) as bystander,
        open_socket(running.whole.gateways[0].url) as back,
    ):
        for client, token in ((one, alice), (other, alice), (bystander, bob)):
            await client.connect(token)
        await running.call("POST", "/auth/users/-/disconnect?issuer=acme&sub=alice")
        ends = [await client.closed() for client in (one, other)]
        await back.connect(alice)
        pong = await bystander.ask("ping")  # its socket is open

    assert [(end.code, "disconnected" in end.reason) for end in ends] == [(4401, True)] * 2
    assert pong["type"] == "reply"


async def test_revocation_closes_sockets_with_older_tokens_and_a_newer_token_connects(running: Running) -> None:
    old = running.outside.token("alice")
    async with open_socket(running.whole.gateways[0].url) as client:
        await client.connect(old)
        await running.call("POST", "/auth/revocations", {"userId": "acme-alice"})
        end = await client.closed()
    async with open_socket(running.whole.gateways[1].url) as client:
        with pytest.raises(Closed) as refused:
            await client.connect(old)
    async with open_socket(running.whole.gateways[1].url) as client:
        await client.connect(running.outside.token("alice", iat=int(time.time()) + 5))

    assert end.code == 4401
    assert refused.value.code == 4401

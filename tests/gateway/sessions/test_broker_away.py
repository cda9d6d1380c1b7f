"""While the broker is away, the gateway asks a real auth over HTTP with the client's own token."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.app import Tuning
from beaconfire_gateway.sessions.authorization import AskingPolicy
from beaconfire_kit.authorization import GrantRequest
from beaconfire_kit.roles import Role
from beaconfire_kit.settings import DEVELOPMENT_SERVICE_TOKEN
from tests.asking import grant
from tests.auth.conftest import Auth, running_auth
from tests.client import Closed, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement


@pytest.fixture(name="real_auth")
async def _real_auth(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Auth]:
    async with running_auth(stream, tmp_path) as auth:
        yield auth


@pytest.fixture(name="policy")
def _policy() -> AskingPolicy:
    """How the gateway asks auth. A test may change it while the gateway runs."""
    return AskingPolicy(renew_every_s=0.05)


@pytest.fixture(name="between")
async def _between(stream: NatsServer, real_auth: Auth, policy: AskingPolicy) -> AsyncIterator[Gateway]:
    """A gateway between a real broker and a real auth."""
    there = FakeAuth()
    there.jwks_url = f"{real_auth.url}/.well-known/jwks.json"
    async with running_gateway(stream, there, Tuning(asking=policy)) as gateway:
        yield gateway


async def make_owner(gateway: Gateway, user_id: str) -> None:
    """Make a user the owner of campaign c1."""
    wanted = GrantRequest(root="campaign:c1", user_id=user_id, role=Role.OWNER, service_token=DEVELOPMENT_SERVICE_TOKEN)
    await grant(gateway.publisher, wanted)


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_members_connect_and_join_and_strangers_are_refused_while_the_broker_is_away(
    between: Gateway, real_auth: Auth, stream: NatsServer, how: str
) -> None:
    owner, stranger = await real_auth.sign_up("owner"), await real_auth.sign_up("stranger")
    await make_owner(between, owner.id)
    async with (
        open_socket(between.url) as before,
        open_socket(between.url) as client,
        open_socket(between.url) as other,
    ):
        await before.connect(owner.token, ["campaign:c1"])
        await asyncio.to_thread(stream.freeze if how == "frozen" else stream.kill)
        await before.next("degraded")
        joined = await before.ask("subscribe", rooms=["campaign:c1/settlement:s9"])
        ack = await client.connect(owner.token, ["campaign:c1"])
        later = await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"])
        refused = await other.connect(stranger.token, ["campaign:c1"])
        renewed = await other.ask("refresh", token=stranger.token)
        await asyncio.to_thread(stream.thaw if how == "frozen" else stream.start)
        await client.next("live")
        await between.publish(settlement("s1"))
        event = await client.next("event")

    assert ack["rooms"]["campaign:c1"]["success"], ack
    assert later["rooms"]["campaign:c1/settlement:s1"]["success"], later
    assert not refused["rooms"]["campaign:c1"]["success"]
    assert renewed["type"] == "reply"
    assert joined["error"]["code"] == "broker_unavailable", joined
    assert "message broker does not answer" in joined["error"]["message"]
    assert event["event"]["payload"]["settlementId"] == "s1"


async def test_revoked_token_is_refused_while_the_broker_is_away(
    between: Gateway, real_auth: Auth, stream: NatsServer
) -> None:
    owner = await real_auth.sign_up("owner")
    await asyncio.to_thread(stream.freeze)
    issued_in = int(time.time())
    async with asyncio.timeout(20):
        while int(time.time()) == issued_in:  # a token is as old as its second
            await asyncio.sleep(0.01)
    signed_in = (await real_auth.sign_in("owner")).body
    await real_auth.call("POST", "/auth/sign-out", {"refreshToken": signed_in["refreshToken"], "everywhere": True})
    async with open_socket(between.url) as client:
        with pytest.raises(Closed) as closed:
            await client.connect(owner.token)
    await asyncio.to_thread(stream.thaw)

    assert closed.value.code == 4401


async def test_sessions_stay_in_their_rooms_through_a_long_broker_outage(
    between: Gateway, real_auth: Auth, stream: NatsServer, policy: AskingPolicy
) -> None:
    owner = await real_auth.sign_up("owner")
    await make_owner(between, owner.id)
    async with open_socket(between.url) as client:
        await client.connect(owner.token, ["campaign:c1"])
        await asyncio.to_thread(stream.freeze)
        await client.next("degraded")
        policy.renew_after_s = -1.0
        policy.lease_s = -1.0
        await client.ask("ping")
        await asyncio.to_thread(stream.thaw)
        await client.next("live")
        policy.lease_s = 600.0
        await between.publish(settlement("s1"))
        await client.next("event")

    assert "room.left" not in [frame["type"] for frame in client.frames]


@pytest.mark.parametrize("connects", ["after both changes", "before both changes"])
async def test_member_removed_and_added_again_during_an_outage_stays_if_auth_was_asked_after_that(
    between: Gateway, real_auth: Auth, stream: NatsServer, connects: str
) -> None:
    """A client that was let in before has no newer decision, so the removal's event puts it out."""
    owner, viewer = await real_auth.sign_up("owner"), await real_auth.sign_up("viewer")
    await make_owner(between, owner.id)
    members = "/auth/roots/campaign:c1/members"
    who = {"email": viewer.email, "role": "viewer"}
    assert (await real_auth.call("POST", members, who, token=owner.token)).status < 300
    await asyncio.to_thread(stream.freeze)

    async def change() -> None:
        for call in (
            real_auth.call("DELETE", f"{members}/{viewer.id}", token=owner.token),
            real_auth.call("POST", members, who, token=owner.token),
        ):
            answer = await call
            assert answer.status < 300, answer

    async with open_socket(between.url) as client:
        if connects == "after both changes":
            await change()
        ack = await client.connect(viewer.token, ["campaign:c1"])
        if connects == "before both changes":
            await change()
        await asyncio.to_thread(stream.thaw)
        if connects == "before both changes":
            assert (await client.next("room.left"))["reason"] == "membership_removed"
            return
        while (await client.next("event"))["event"]["payload"].get("role") != "viewer":
            pass
        await between.publish(settlement("s1"))
        while (await client.next("event"))["event"]["type"] != "settlement_updated":
            pass

    assert ack["rooms"]["campaign:c1"]["success"], ack
    assert "room.left" not in [frame["type"] for frame in client.frames]

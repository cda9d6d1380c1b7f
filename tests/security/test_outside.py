"""Gateway, publisher and auth accept valid tokens of an outside issuer, over HTTP, with an RSA key."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import AuthorizeRequest, Newcomer
from tests.asking import authorize
from tests.client import Closed
from tests.conftest import connected
from tests.outside import Outside, running_outside
from tests.security.whole import Whole, connect, running_whole, with_token


@pytest.fixture(name="outside")
async def _outside() -> AsyncIterator[Outside]:
    async with running_outside() as outside:
        yield outside


@pytest.fixture(name="whole")
async def _whole(stream: NatsServer, tmp_path: Path, outside: Outside) -> AsyncIterator[Whole]:
    async with running_whole(stream, tmp_path, everywhere=outside.settings()) as whole:
        yield whole


async def test_user_of_an_outside_issuer_is_accepted_everywhere_and_can_be_a_member(
    whole: Whole, outside: Outside
) -> None:
    """None of them has heard of the user before."""
    alice = outside.token("alice", name="Alice", email="alice@id.example", email_verified=True)
    ack = await connect(whole.gateways[0], alice)
    created = await whole.api(alice).post("/v1/campaigns", {"name": "Hers"})
    me = await whole.auth.call("GET", "/auth/me", token=alice)
    owner = await whole.sign_up("owner")
    campaign = await whole.campaign(owner)
    members = f"/auth/roots/campaign:{campaign}/members"
    body = {"email": "alice@id.example", "role": "viewer"}
    added = await whole.auth.call("POST", members, body, token=owner.token)
    joined = await connect(whole.gateways[0], alice, f"campaign:{campaign}")

    assert isinstance(ack, dict)
    assert ack["userId"] == "acme-alice"
    assert created.status == 201
    assert me.body["user"] == {"id": "acme-alice", "name": "Alice", "email": "alice@id.example"}
    assert added.body["member"]["userId"] == "acme-alice"
    assert isinstance(joined, dict)
    assert joined["rooms"][f"campaign:{campaign}"]["success"]


@pytest.mark.parametrize("token", ["", "no token", "alice's", "expired"])
async def test_broker_password_without_a_token_makes_no_outside_user(
    whole: Whole, outside: Outside, stream: NatsServer, token: str
) -> None:
    shown = {"alice's": outside.token("alice"), "expired": outside.token("bob", exp=int(time.time()) - 600)}
    question = AuthorizeRequest(user_id="acme-bob", newcomer=Newcomer(token=shown.get(token, token)))
    async with connected(stream, "gateway") as nc:
        forged = await authorize(nc, question)
        honest = await authorize(nc, question.model_copy(update={"newcomer": Newcomer(token=outside.token("bob"))}))

    assert forged.revoked
    assert not honest.revoked


@pytest.mark.parametrize("first", ["auth", "publisher", "gateway"])
async def test_outside_user_is_the_same_user_whichever_part_hears_of_it_first(
    whole: Whole, outside: Outside, first: str
) -> None:
    token = outside.token("auth0|bob smith", name="Bob")
    if first == "gateway":
        assert isinstance(await connect(whole.gateways[0], token), dict)
    elif first == "publisher":
        assert (await whole.api(token).get("/v1/campaigns")).body == {"campaigns": []}
    me = (await whole.auth.call("GET", "/auth/me", token=token)).body["user"]

    assert (me["name"], me["id"][:5]) == ("Bob", "acme_")
    assert me["email"].endswith("@acme.invalid")


async def test_outside_users_that_differ_by_case_are_two_users(whole: Whole, outside: Outside) -> None:
    users = [
        (await whole.auth.call("GET", "/auth/me", token=outside.token(name))).body["user"]
        for name in ("alice", "Alice")
    ]

    assert [user["id"] for user in users] == ["acme-alice", "acme-Alice"]
    assert len({user["email"] for user in users}) == 2


async def test_outside_user_with_a_local_users_address_gets_another_address(whole: Whole, outside: Outside) -> None:
    owner = await whole.sign_up("owner")
    campaign = await whole.campaign(owner)
    thief = outside.token(owner.id, email=owner.email, email_verified=True)
    me = (await whole.auth.call("GET", "/auth/me", token=thief)).body["user"]

    assert me["id"] == f"acme-{owner.id}"
    assert me["email"] == f"acme-{owner.id}@acme.invalid"
    assert (await whole.api(thief).get(f"/v1/campaigns/{campaign}")).error == (403, "forbidden")
    for password in ("", "x" * 8):
        body = {"email": me["email"], "password": password}
        assert (await whole.auth.call("POST", "/auth/sign-in", body)).code == "bad_credentials"


async def test_invalid_token_of_an_outside_issuer_is_refused_by_every_part(whole: Whole, outside: Outside) -> None:
    forger, now = await whole.forger(), int(time.time())
    other = rsa.generate_private_key(65537, 2048)
    bad = {
        "another key": outside.token("alice", key=other),
        "auth's key": forger.forged({"typ": "JWT"}, {"iss": "https://id.example", "uid": "alice"}),
        "its key in auth's name": outside.token("alice", iss="beaconfire", aud="beaconfire", sub="alice", jti="t"),
        "another algorithm": outside.token("alice", alg="PS256"),
        "a longer one": outside.token("alice", alg="RS512"),
        "unknown key": outside.token("alice", kid="o9"),
        "another audience": outside.token("alice", aud=["other"]),
        "another issuer": outside.token("alice", iss="https://id.example.evil"),
        "too long a life": outside.token("alice", exp=now + 7_200),
        "expired": outside.token("alice", iat=now - 700, exp=now - 100),
        "nobody": outside.token(""),
    }
    async with aiohttp.ClientSession() as http:
        for name, token in bad.items():
            end = await connect(whole.gateways[0], token)
            assert isinstance(end, Closed), name
            assert end.code == 4401, name
            for url in (f"{whole.auth.url}/auth/me", f"{whole.publisher.url}/v1/campaigns"):
                assert (await with_token(http, url, token))[0] == 401, name


async def test_new_key_of_an_outside_issuer_is_accepted_when_a_token_names_it(whole: Whole, outside: Outside) -> None:
    assert (await whole.auth.call("GET", "/auth/me", token=outside.token("alice"))).status == 200
    outside.add_key("o2")
    token = outside.token("alice", kid="o2")

    assert (await whole.api(token).get("/v1/campaigns")).status == 200
    assert isinstance(await connect(whole.gateways[0], token), dict)


async def test_user_of_an_issuer_unknown_to_auth_is_refused_by_a_gateway_that_knows_it(
    stream: NatsServer, tmp_path: Path, outside: Outside
) -> None:
    settings = outside.settings()
    async with running_whole(stream, tmp_path, everywhere=settings, auth={"outside_issuers": ()}) as whole:
        end = await connect(whole.gateways[0], outside.token("alice"))

        assert isinstance(end, Closed)
        assert end.code == 4401
        assert (await whole.api(outside.token("alice")).get("/v1/campaigns")).error == (401, "token_invalid")

"""Operators' calls over HTTP: access, key rotation on a running auth, and service tokens."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import tokens
from beaconfire_kit.authorization import AuthorizeRequest
from beaconfire_kit.verifier import Verifier
from tests.asking import authorize
from tests.auth.conftest import OPERATOR_TOKEN, Auth, running_auth
from tests.conftest import connected
from tests.databases import on_both_databases

CALLS = [
    ("GET", "keys"),
    ("POST", "keys"),
    ("DELETE", "keys/k1"),
    ("GET", "service-tokens"),
    ("POST", "service-tokens"),
    ("DELETE", "service-tokens/t1"),
    ("POST", "reset-attempts"),
    ("GET", "users/u1"),
]


async def test_operators_calls_need_the_operator_token_and_are_not_on_the_public_port(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    for method, path in CALLS:
        for token in (None, "", "wrong", owner.token, OPERATOR_TOKEN[:-1], OPERATOR_TOKEN + "é"):
            answer = await auth.operate(method, path, {}, token=token)
            assert (answer.status, answer.code) == (401, "token_invalid")
        public = await auth.call(method, f"/api/v1/auth/{path}", {}, token=OPERATOR_TOKEN)
        assert public.status == 404


@pytest.mark.parametrize("token", [b"\xff", b"\xed\xa0\x80", OPERATOR_TOKEN.encode() + b"\xff"])
async def test_operator_token_that_is_not_utf8_gets_401(auth: Auth, token: bytes) -> None:
    host, port = auth.ops_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /api/v1/auth/keys HTTP/1.1\r\nHost: auth.example\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    )
    status = await reader.readline()
    writer.close()

    assert status.split()[1] == b"401"


async def test_operators_calls_are_refused_when_no_operator_token_is_configured(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path, operator_token="") as auth:
        for token in (None, "", "x"):
            answer = await auth.operate("GET", "keys", token=token)
            assert (answer.status, answer.code) == (403, "forbidden")
        assert "BEACONFIRE_OPERATOR_TOKEN" in answer.body["error"]["message"]


async def test_both_keys_tokens_are_accepted_after_a_rotation(auth: Auth) -> None:
    old = await auth.sign_up("owner")
    made = await auth.operate("POST", "keys", {"leadS": 0})
    new = (await auth.sign_in("owner")).body["accessToken"]
    listed = (await auth.operate("GET", "keys")).body["keys"]
    jwks = (await auth.call("GET", "/.well-known/jwks.json")).body["keys"]

    assert made.status == 201
    assert tokens.peek(new).key_id == made.body["key"]["kid"] != tokens.peek(old.token).key_id
    assert [(one["kid"], one["state"]) for one in listed] == [
        (made.body["key"]["kid"], "signing"),
        (tokens.peek(old.token).key_id, "verifying"),
    ]
    assert {one["kid"] for one in jwks} == {one["kid"] for one in listed}
    for token in (old.token, new):
        assert (await auth.call("GET", "/auth/me", token=token)).status == 200


async def test_rotated_key_is_published_for_two_minutes_before_it_signs(auth: Auth) -> None:
    """Another rotation must wait for that."""
    made = (await auth.operate("POST", "keys", {})).body["key"]
    again = await auth.operate("POST", "keys", {})
    token = (await auth.sign_up("owner")).token

    assert (made["state"], made["signsFrom"] - made["createdAt"]) == ("next", 120)
    assert (again.status, again.code) == (409, "conflict")
    assert tokens.peek(token).key_id != made["kid"]


async def test_tokens_of_a_retired_key_are_refused_and_the_signing_key_cannot_be_retired(auth: Auth) -> None:
    old = await auth.sign_up("owner")
    kid = tokens.peek(old.token).key_id
    signing = await auth.operate("DELETE", f"keys/{kid}")
    await auth.operate("POST", "keys", {"leadS": 0})
    retired = await auth.operate("DELETE", f"keys/{kid}")
    again = await auth.operate("DELETE", f"keys/{kid}")

    assert [signing.status, retired.status, again.status] == [409, 204, 404]
    assert (await auth.call("GET", "/auth/me", token=old.token)).code == "token_invalid"


async def test_two_auth_processes_on_one_database_accept_each_others_tokens(stream: NatsServer, tmp_path: Path) -> None:
    async with (
        running_auth(stream, tmp_path) as here,
        running_auth(stream, tmp_path) as there,
    ):
        owner = await here.sign_up("owner")
        assert (await there.call("GET", "/auth/me", token=owner.token)).status == 200
        made = (await here.operate("POST", "keys", {"leadS": 0})).body["key"]
        new = (await here.sign_in("owner")).body["accessToken"]
        while (await there.call("GET", "/auth/me", token=new)).status == 401:
            pass

        assert made["kid"] in {one["kid"] for one in (await there.call("GET", "/.well-known/jwks.json")).body["keys"]}


WEATHER = {"service": "weather", "publish": ["campaign.*.world_time", "campaign.c1.>"]}


async def is_revoked(nc: Client, claims: tokens.ServiceClaims, service: str | None = None) -> bool:
    question = AuthorizeRequest(
        user_id=service or claims.service, service_token=claims.token_id, rooms=("campaign:c1",)
    )
    reply = await authorize(nc, question)
    assert not reply.rooms["campaign:c1"].allowed
    return reply.revoked


async def test_service_token_is_made_verified_listed_with_its_last_use_and_revoked(
    auth: Auth, stream: NatsServer
) -> None:
    made = await auth.operate("POST", "service-tokens", WEATHER)
    token_id = made.body["serviceToken"]["id"]
    async with aiohttp.ClientSession() as http, connected(stream, "publisher") as nc:
        verifier = Verifier(http, f"{auth.url}/.well-known/jwks.json", issuer="beaconfire", audience="beaconfire")
        claims = await verifier.verify_service(made.body["token"])
        unused = (await auth.operate("GET", "service-tokens")).body["serviceTokens"]
        before = await is_revoked(nc, claims)
        used = (await auth.operate("GET", "service-tokens")).body["serviceTokens"]
        others = await is_revoked(nc, claims, "somebody"), await is_revoked(nc, claims, "weather2")
        revoked = [(await auth.operate("DELETE", f"service-tokens/{token_id}")).status for _ in range(2)]
        after = await is_revoked(nc, claims)
    listed = (await auth.operate("GET", "service-tokens")).body["serviceTokens"]

    assert made.status == 201
    assert (claims.service, claims.publish) == ("weather", ("campaign.*.world_time", "campaign.c1.>"))
    assert claims.expires_at - claims.issued_at == 90 * 24 * 3600
    assert (before, others, revoked, after) == (False, (True, True), [204, 204], True)
    assert (unused[0]["usedAt"], unused[0]["revokedAt"]) == (None, None)
    assert used[0]["usedAt"].endswith("Z")
    assert [(one["id"], one["service"], one["revokedAt"] is None) for one in listed] == [(token_id, "weather", False)]
    assert made.body["token"] not in str(listed)


@pytest.mark.parametrize(
    "change",
    [
        {"service": "a.b"},
        {"service": ""},
        {"publish": []},
        {"publish": [">"]},
        {"publish": ["live.>"]},
        {"publish": ["campaign.c1.."]},
        {"publish": [f"campaign.c{number}.>" for number in range(51)]},
        {"publish": [f"campaign.{'a' * 60}.{'b' * 60}.{number}.{'c' * 60}.>" for number in range(50)]},
        {"expiresInS": 0},
        {"expiresInS": 400 * 24 * 3600},
        {"extra": 1},
    ],
    ids=str,
)
async def test_invalid_service_token_is_refused_with_a_reason_and_not_listed(
    auth: Auth, change: dict[str, object]
) -> None:
    answer = await auth.operate("POST", "service-tokens", {**WEATHER, **change})

    assert (answer.status, answer.code) == (400, "bad_request")
    assert (await auth.operate("GET", "service-tokens")).body["serviceTokens"] == []


@on_both_databases
@pytest.mark.parametrize("token_id", ["none", "a%00b"])
async def test_revoking_an_unknown_service_token_is_refused(auth: Auth, token_id: str) -> None:
    assert (await auth.operate("DELETE", f"service-tokens/{token_id}")).status == 404


async def test_service_token_is_refused_where_a_users_token_is_needed(auth: Auth) -> None:
    made = await auth.operate("POST", "service-tokens", WEATHER)
    answer = await auth.call("GET", "/auth/me", token=made.body["token"])

    assert (answer.status, answer.code) == (401, "token_invalid")

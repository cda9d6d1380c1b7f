"""`POST /auth/authorize` answers over HTTP what auth answers over the broker, for the token's owner alone."""

import asyncio
import time

import pytest

from beaconfire_kit.authorization import AuthorizeReply, AuthorizeRequest
from tests.asking import authorize
from tests.auth.conftest import Table

PATH = "/auth/authorize"


@pytest.mark.parametrize("name", ["owner", "editor", "viewer", "stranger"])
async def test_authorize_over_http_decides_like_authorize_over_the_broker(table: Table, name: str) -> None:
    person = table.people[name]
    rooms = ("campaign:c1", "campaign:c1/settlement:s1", "campaign:c2", f"user:{person.id}", "no room at all")
    asked = {"rooms": rooms, "rootsOf": "campaign"}
    over_http = await table.auth.call("POST", PATH, asked, token=person.token)
    over_broker = await authorize(table.nc, AuthorizeRequest(user_id=person.id, rooms=rooms, roots_of="campaign"))

    assert over_http.status == 200, over_http
    assert AuthorizeReply.model_validate(over_http.body) == over_broker


@pytest.mark.parametrize("key", ["userId", "issuedAt", "serviceToken", "newcomer"])
async def test_authorize_over_http_refuses_a_body_that_names_a_user(table: Table, key: str) -> None:
    body = {"rooms": ["campaign:c1"], key: table.people["owner"].id}
    answer = await table.auth.call("POST", PATH, body, token=table.people["stranger"].token)

    assert answer.status == 400
    assert key in answer.body["error"]["message"]


@pytest.mark.parametrize("token", [None, "", "no.token.atall"])
async def test_authorize_over_http_needs_a_valid_token(table: Table, token: str | None) -> None:
    answer = await table.auth.call("POST", PATH, {"rooms": ["campaign:c1"]}, token=token)

    assert answer.status == 401


async def test_revoked_token_opens_no_room_over_http(table: Table) -> None:
    person = table.people["editor"]
    issued_in = int(time.time())
    async with asyncio.timeout(20):
        while int(time.time()) == issued_in:  # a token is as old as its second
            await asyncio.sleep(0.01)
    await table.auth.call("POST", "/auth/sign-out", {"refreshToken": person.refresh_token, "everywhere": True})
    answer = await table.auth.call("POST", PATH, {"rooms": ["campaign:c1", f"user:{person.id}"]}, token=person.token)

    assert (answer.status, answer.body["error"]["code"]) == (401, "token_invalid")

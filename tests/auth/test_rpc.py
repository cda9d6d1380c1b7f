"""The questions of other services, over a real broker with the shipped user table."""

import asyncio
import json
from pathlib import Path

import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from shared import errors
from shared.authorization import AuthorizeRequest, AuthUnavailable, GrantRequest, RoomDecision, authorize, grant
from shared.errors import BeaconfireError
from shared.roles import Role
from tests.auth.conftest import Table, granting, running_auth
from tests.conftest import connected
from tools.nats_server import NatsServer


async def test_authorize_many(table: Table) -> None:
    """Two hundred rooms in one request, each answered by the name it was asked with."""
    rooms = tuple(f"campaign:c{number % 4}/settlement:s{number}" for number in range(200))
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["editor"].id, rooms=rooms))

    assert set(reply.rooms) == set(rooms)
    assert {room for room, decision in reply.rooms.items() if decision.allowed} == {
        room for room in rooms if room.startswith("campaign:c1/")
    }
    assert {decision.root for decision in reply.rooms.values() if decision.allowed} == {"campaign:c1"}


async def test_authorize_self(table: Table) -> None:
    """A user's own room is open to that user alone."""
    viewer, editor = table.people["viewer"].id, table.people["editor"].id
    reply = await authorize(table.nc, AuthorizeRequest(user_id=viewer, rooms=(f"user:{viewer}", f"user:{editor}")))

    assert [decision.allowed for decision in reply.rooms.values()] == [True, False]


async def test_authorize_nobody(table: Table) -> None:
    """A user that does not exist is revoked, whatever it asks: it may have been deleted."""
    reply = await authorize(table.nc, AuthorizeRequest(user_id="nobody", rooms=("user:nobody", "campaign:c1")))

    assert reply.revoked
    assert not [decision for decision in reply.rooms.values() if decision.allowed]


@pytest.mark.parametrize(
    "room",
    ["", "campaign", "campaign:", ":c1", "campaign:*", "campaign:>", "campaign:c1.settlement", "campaign:c 1",
     "campaign:c1\n", "campaign:c1\x00", "campaign:%2A", "c\u0430mpaign:c1", "campaign:" + "c" * 10_000,
     "campaign:c1/", "/settlement:s1", "campaign:c1/campaign:c9", "settlement:s1/structure:t1",
     "campaign:c1/settlement:s1/structure:t1", "campaign:../c1"],
)  # fmt: skip
async def test_authorize_malformed(table: Table, room: str) -> None:
    """A name that is no room is not allowed, even to an owner, and spoils no other room of the request."""
    question = AuthorizeRequest(user_id=table.people["owner"].id, rooms=(room, "campaign:c1"))
    reply = await authorize(table.nc, question)

    assert not reply.rooms[room].allowed
    assert reply.rooms["campaign:c1"].allowed


async def test_foreign_and_missing_are_alike(table: Table) -> None:
    """A stranger cannot tell a room that exists from one that does not."""
    rooms = ("campaign:c1", "campaign:none", "campaign:c1/settlement:s1", "settlement:none", "user:nobody")
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["stranger"].id, rooms=rooms))

    assert set(reply.rooms.values()) == {RoomDecision(allowed=False)}


async def test_nobody_waits_for_another(table: Table) -> None:
    """A question that waits for an offset does not hold up those behind it."""
    person = table.people["owner"].id
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(authorize(table.nc, AuthorizeRequest(user_id=person, after=1_000_000)))
        while not waiting.done():
            await authorize(table.nc, AuthorizeRequest(user_id=person), timeout_s=0.5)

    assert waiting.result().error is None


@pytest.mark.parametrize("user", ["gateway", "publisher"])
async def test_who_may_ask(table: Table, stream: NatsServer, user: str) -> None:
    """Gateways may ask and not grant; publishers may do both."""
    question = granting(root="campaign:c7", user_id=table.people["owner"].id, role=Role.OWNER)
    async with connected(stream, user) as nc:
        reply = await authorize(nc, AuthorizeRequest(user_id=table.people["owner"].id, rooms=("campaign:c1",)))
        granted = await asyncio.gather(grant(nc, question, timeout_s=1), return_exceptions=True)

    assert reply.rooms["campaign:c1"].role is Role.OWNER
    assert isinstance(granted[0], AuthUnavailable) == (user == "gateway")


async def test_authorize_roots(table: Table) -> None:
    """A service may ask for all of a user's roots of a kind."""
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["viewer"].id, roots_of="campaign"))

    assert reply.roots == {"campaign:c1": Role.VIEWER}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b"{}", b'{"userId":"*"}', b'{"userId":"u","rooms":7}'],
)
@pytest.mark.parametrize("subject", ["auth.authorize", "auth.grant"])
async def test_never_silent(table: Table, subject: str, body: bytes) -> None:
    """Whatever is asked is answered, with an error that says what was wrong."""
    answer = json.loads((await table.nc.request(subject, body, timeout=2)).data)

    assert answer["error"]["code"] == "bad_request"


async def granted(table: Table, token: str, root: str = "campaign:c4") -> str:
    """What comes of a grant with this service token: `granted`, or the error's code."""
    asked = granting(root, table.people["stranger"].id, Role.OWNER).model_copy(update={"service_token": token})
    try:
        await grant(table.nc, asked)
    except BeaconfireError as refused:
        return refused.code.code
    return "granted"


@pytest.mark.parametrize("token", ["", "x", "for development onlY", "a.b.c", "x" * 8_000])
async def test_a_broker_password_grants_nothing(table: Table, token: str) -> None:
    """A service that may ask `auth.grant` makes nobody a member without a good service token."""
    assert await granted(table, token, "campaign:c1") == "token_invalid"
    assert await table.role_of("stranger") is None


async def test_issued_tokens_grant(table: Table) -> None:
    """An operator's service token grants in roots of the kinds it names for members, until it is revoked. One that may
    only publish, also everything, grants nothing, and neither does a user's token."""

    async def issue(*patterns: str) -> tuple[str, str]:
        body = {"service": "quests", "publish": patterns}
        answer = await table.auth.operate("POST", "service-tokens", body)
        return answer.body["serviceToken"]["id"], answer.body["token"]

    id_, good = await issue("campaign.*.quest.*", "campaign.*.member.*")
    _, publishing = await issue("campaign.>", "workspace.>")
    before = [await granted(table, good), await granted(table, good, "workspace:w4"), await granted(table, publishing)]
    await table.auth.operate("DELETE", f"service-tokens/{id_}")
    revoked = await granted(table, good, "campaign:c5")
    users_own = await granted(table, table.people["stranger"].token, "campaign:c5")

    assert before == ["granted", "token_invalid", "token_invalid"]
    assert (revoked, users_own) == ("token_invalid", "token_invalid")


async def test_grant_tokens_are_rotated(stream: NatsServer, tmp_path: Path) -> None:
    """With the new token beside the old one both grant; without the old one, only the new one does."""
    outcomes: list[list[bool]] = []
    for tokens in ("old-token", "new-token,old-token", "new-token,", ""):
        async with running_auth(stream, tmp_path, grant_tokens=SecretStr(tokens)) as auth:
            person = await auth.sign_up(f"p{len(outcomes)}")
            async with connected(stream, "publisher") as nc:
                outcomes.append([await _is_granted(nc, person.id, token) for token in ("old-token", "new-token")])

    assert outcomes == [[True, False], [True, True], [False, True], [False, False]]


async def _is_granted(nc: Client, user_id: str, token: str) -> bool:
    asked = GrantRequest(root="campaign:c9", user_id=user_id, role=Role.VIEWER, service_token=token)
    try:
        await grant(nc, asked)
    except BeaconfireError as refused:
        if refused.code is not errors.TOKEN_INVALID:
            raise
        return False
    return True


async def test_grant_keeps_the_last_owner(table: Table) -> None:
    """A grant of a lower role does not leave a root without an owner."""
    with pytest.raises(BeaconfireError) as refused:
        await grant(table.nc, granting(root="campaign:c1", user_id=table.people["owner"].id, role=Role.EDITOR))

    assert refused.value.code.code == "conflict"
    assert await table.role_of("owner") is Role.OWNER


@pytest.mark.parametrize("root", ["nonsense", "user:u1", "settlement:s1", "campaign:*"])
async def test_grant_refused(table: Table, root: str) -> None:
    """A grant on what is no root with members, or to nobody, is refused."""
    with pytest.raises(BeaconfireError) as bad_root:
        await grant(table.nc, granting(root=root, user_id=table.people["owner"].id, role=Role.OWNER))
    with pytest.raises(BeaconfireError) as nobody:
        await grant(table.nc, granting(root="campaign:c5", user_id="nobody", role=Role.OWNER))

    assert (bad_root.value.code.code, nobody.value.code.code) == ("bad_room", "not_found")

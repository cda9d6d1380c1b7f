"""Requests of other services to auth, over a real broker with the shipped user table."""

import asyncio
import json
from pathlib import Path

import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from beaconfire.nats_server import NatsServer
from beaconfire_kit import errors
from beaconfire_kit.authorization import AuthorizeRequest, AuthUnavailable, GrantRequest, RoomDecision
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from tests.asking import authorize, grant
from tests.auth.conftest import Table, granting, running_auth
from tests.conftest import connected


async def test_authorize_answers_two_hundred_rooms_by_the_names_asked_with(table: Table) -> None:
    rooms = tuple(f"campaign:c{number % 4}/settlement:s{number}" for number in range(200))
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["editor"].id, rooms=rooms))

    assert set(reply.rooms) == set(rooms)
    assert {room for room, decision in reply.rooms.items() if decision.allowed} == {
        room for room in rooms if room.startswith("campaign:c1/")
    }
    assert {decision.root for decision in reply.rooms.values() if decision.allowed} == {"campaign:c1"}


async def test_users_own_room_is_open_to_that_user_only(table: Table) -> None:
    viewer, editor = table.people["viewer"].id, table.people["editor"].id
    reply = await authorize(table.nc, AuthorizeRequest(user_id=viewer, rooms=(f"user:{viewer}", f"user:{editor}")))

    assert [decision.allowed for decision in reply.rooms.values()] == [True, False]


async def test_unknown_user_is_reported_as_revoked(table: Table) -> None:
    """The user may have been deleted."""
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
async def test_malformed_room_is_refused_even_to_an_owner_and_does_not_affect_others(table: Table, room: str) -> None:
    question = AuthorizeRequest(user_id=table.people["owner"].id, rooms=(room, "campaign:c1"))
    reply = await authorize(table.nc, question)

    assert not reply.rooms[room].allowed
    assert reply.rooms["campaign:c1"].allowed


async def test_stranger_cannot_tell_an_existing_room_from_a_missing_one(table: Table) -> None:
    rooms = ("campaign:c1", "campaign:none", "campaign:c1/settlement:s1", "settlement:none", "user:nobody")
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["stranger"].id, rooms=rooms))

    assert set(reply.rooms.values()) == {RoomDecision(allowed=False)}


async def test_request_that_waits_for_an_offset_does_not_delay_later_requests(table: Table) -> None:
    person = table.people["owner"].id
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(authorize(table.nc, AuthorizeRequest(user_id=person, after=1_000_000)))
        while not waiting.done():
            await authorize(table.nc, AuthorizeRequest(user_id=person), timeout_s=0.5)

    assert waiting.result().error is None


@pytest.mark.parametrize("user", ["gateway", "publisher"])
async def test_gateways_may_ask_and_only_publishers_may_grant(table: Table, stream: NatsServer, user: str) -> None:
    question = granting(root="campaign:c7", user_id=table.people["owner"].id, role=Role.OWNER)
    async with connected(stream, user) as nc:
        reply = await authorize(nc, AuthorizeRequest(user_id=table.people["owner"].id, rooms=("campaign:c1",)))
        granted = await asyncio.gather(grant(nc, question, timeout_s=1), return_exceptions=True)

    assert reply.rooms["campaign:c1"].role is Role.OWNER
    assert isinstance(granted[0], AuthUnavailable) == (user == "gateway")


async def test_authorize_lists_all_roots_of_a_kind_for_a_user(table: Table) -> None:
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["viewer"].id, roots_of="campaign"))

    assert reply.roots == {"campaign:c1": Role.VIEWER}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b"{}", b'{"userId":"*"}', b'{"userId":"u","rooms":7}'],
)
@pytest.mark.parametrize("subject", ["auth.authorize", "auth.grant"])
async def test_every_request_to_auth_is_answered_with_what_was_wrong(table: Table, subject: str, body: bytes) -> None:
    answer = json.loads((await table.nc.request(subject, body, timeout=2)).data)

    assert answer["error"]["code"] == "bad_request"


async def granted(table: Table, token: str, root: str = "campaign:c4") -> str:
    """Return the result of a grant with this service token: `granted`, or the error's code."""
    asked = granting(root, table.people["stranger"].id, Role.OWNER).model_copy(update={"service_token": token})
    try:
        await grant(table.nc, asked)
    except BeaconfireError as refused:
        return refused.code.code
    return "granted"


@pytest.mark.parametrize("token", ["", "x", "for development onlY", "a.b.c", "x" * 8_000])
async def test_grant_without_a_valid_service_token_is_refused(table: Table, token: str) -> None:
    assert await granted(table, token, "campaign:c1") == "token_invalid"
    assert await table.role_of("stranger") is None


async def test_issued_service_token_grants_in_its_root_kinds_until_it_is_revoked(table: Table) -> None:
    """A token that may only publish grants nothing, and neither does a user's token."""

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


async def test_both_grant_tokens_work_during_their_rotation(stream: NatsServer, tmp_path: Path) -> None:
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


async def test_grant_of_a_lower_role_cannot_remove_the_last_owner(table: Table) -> None:
    with pytest.raises(BeaconfireError) as refused:
        await grant(table.nc, granting(root="campaign:c1", user_id=table.people["owner"].id, role=Role.EDITOR))

    assert refused.value.code.code == "conflict"
    assert await table.role_of("owner") is Role.OWNER


@pytest.mark.parametrize("root", ["nonsense", "user:u1", "settlement:s1", "campaign:*"])
async def test_grant_on_something_that_is_no_root_or_to_an_unknown_user_is_refused(table: Table, root: str) -> None:
    with pytest.raises(BeaconfireError) as bad_root:
        await grant(table.nc, granting(root=root, user_id=table.people["owner"].id, role=Role.OWNER))
    with pytest.raises(BeaconfireError) as nobody:
        await grant(table.nc, granting(root="campaign:c5", user_id="nobody", role=Role.OWNER))

    assert (bad_root.value.code.code, nobody.value.code.code) == ("bad_room", "not_found")

"""Members of roots: over HTTP, by grants, and as events on the stream."""

import asyncio
import json

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import AuthorizeRequest, AuthUnavailable
from beaconfire_kit.events.user import AccessRevoked, MemberChanged
from beaconfire_kit.roles import Role
from tests.asking import authorize, grant
from tests.auth.conftest import Table, granting
from tests.conftest import connected
from tests.databases import on_both_databases

pytestmark = on_both_databases


async def test_members_see_all_members_and_strangers_get_the_answer_of_a_missing_campaign(table: Table) -> None:
    seen = await table.auth.call("GET", table.path, token=table.people["viewer"].token)
    stranger = await table.auth.call("GET", table.path, token=table.people["stranger"].token)
    nowhere = await table.auth.call("GET", "/auth/roots/campaign:none/members", token=table.people["stranger"].token)

    assert {member["name"]: member["role"] for member in seen.body["members"]} == {
        "owner": "owner",
        "editor": "editor",
        "viewer": "viewer",
    }
    assert (stranger.status, stranger.body) == (nowhere.status, nowhere.body)
    assert stranger.code == "forbidden"


@pytest.mark.parametrize("name", ["editor", "viewer", "stranger"])
async def test_only_owners_add_change_and_remove_members(table: Table, name: str) -> None:
    token, editor = table.people[name].token, table.people["editor"].id
    added = await table.add("stranger", "viewer", by=name)
    changed = await table.auth.call("PUT", f"{table.path}/{table.people['viewer'].id}", {"role": "owner"}, token=token)
    other = editor if name != "editor" else table.people["viewer"].id
    removed = await table.auth.call("DELETE", f"{table.path}/{other}", token=token)

    assert [answer.status for answer in (added, changed, removed)] == [403, 403, 403]


async def test_change_of_a_member_takes_effect_at_once_and_is_published_with_its_author_and_request(
    table: Table,
) -> None:
    viewer, owner = table.people["viewer"], table.people["owner"]
    answer = await table.auth.call(
        "PUT", f"{table.path}/{viewer.id}", {"role": "editor"}, token=owner.token, headers={"X-Correlation-Id": "req-7"}
    )
    event = await table.next_event()

    assert answer.body["member"]["role"] == "editor"
    assert await table.role_of("viewer") is Role.EDITOR
    assert isinstance(event.payload, MemberChanged)
    assert (event.payload.user_id, event.payload.role, event.payload.membership_version) == (viewer.id, Role.EDITOR, 4)
    assert (event.metadata.user_id, event.metadata.correlation_id) == (owner.id, "req-7")


async def test_setting_the_same_role_again_publishes_no_event(table: Table) -> None:
    viewer = table.people["viewer"]
    same = await table.auth.call(
        "PUT", f"{table.path}/{viewer.id}", {"role": "viewer"}, token=table.people["owner"].token
    )
    await table.add("stranger", "viewer")
    event = await table.next_event()

    assert same.status == 200
    assert event.payload.user_id == table.people["stranger"].id  # type: ignore[attr-defined]


async def test_removed_member_has_no_role_and_members_may_leave(table: Table) -> None:
    token, viewer, editor = table.people["owner"].token, table.people["viewer"], table.people["editor"]
    removed = await table.auth.call("DELETE", f"{table.path}/{viewer.id}", token=token)
    left = await table.auth.call("DELETE", f"{table.path}/{editor.id}", token=editor.token)
    twice = await table.auth.call("DELETE", f"{table.path}/{viewer.id}", token=token)
    events = [(await table.next_event()).payload for _ in range(2)]

    assert (removed.status, left.status, twice.status) == (204, 204, 404)
    assert [(event.user_id, event.role) for event in events] == [(viewer.id, None), (editor.id, None)]  # type: ignore[attr-defined]
    assert await table.role_of("viewer") is None


async def test_last_owner_of_a_root_cannot_be_removed(table: Table) -> None:
    owner = table.people["owner"]
    left = await table.auth.call("DELETE", f"{table.path}/{owner.id}", token=owner.token)
    demoted = await table.auth.call("PUT", f"{table.path}/{owner.id}", {"role": "viewer"}, token=owner.token)
    await table.auth.call("PUT", f"{table.path}/{table.people['editor'].id}", {"role": "owner"}, token=owner.token)
    now = await table.auth.call("DELETE", f"{table.path}/{owner.id}", token=owner.token)

    assert (left.code, demoted.code, now.status) == ("conflict", "conflict", 204)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "nobody@auth.example", "role": "viewer"}, 404),
        ({"email": "editor@auth.example", "role": "viewer"}, 409),
        ({"email": "stranger@auth.example", "role": "king"}, 400),
        ({"email": "stranger@auth.example"}, 400),
    ],
)
async def test_adding_unknown_people_existing_members_and_unknown_roles_is_refused(
    table: Table, body: dict[str, str], status: int
) -> None:
    answer = await table.auth.call("POST", table.path, body, token=table.people["owner"].token)

    assert answer.status == status


@pytest.mark.parametrize("root", ["nonsense", "campaign:", "campaign:*", "settlement:s1", "user:u1"])
async def test_members_of_something_that_is_no_root_are_refused(table: Table, root: str) -> None:
    answer = await table.auth.call("GET", f"/auth/roots/{root}/members", token=table.people["owner"].token)

    assert answer.status in (400, 403)


async def test_repeated_grant_makes_one_change_and_one_event(table: Table) -> None:
    question = granting(root="campaign:c2", user_id=table.people["stranger"].id, role=Role.OWNER)
    first, second = await grant(table.nc, question), await grant(table.nc, question)
    await table.add("stranger", "viewer")
    events = [(await table.next_event()).payload for _ in range(2)]

    assert first.version == second.version
    assert [event.root_id for event in events] == ["c2", "c1"]  # type: ignore[attr-defined]


async def test_signing_out_everywhere_publishes_an_event_and_revokes_only_earlier_tokens(table: Table) -> None:
    viewer = table.people["viewer"]
    issued_at = 1_000_000
    await table.auth.call("POST", "/auth/sign-out", {"refreshToken": viewer.refresh_token, "everywhere": True})
    event = await table.next_event()
    old = await authorize(table.nc, AuthorizeRequest(user_id=viewer.id, issued_at=issued_at))
    new = await authorize(
        table.nc,
        AuthorizeRequest(user_id=viewer.id, issued_at=int(event.payload.issued_before.timestamp())),  # type: ignore[attr-defined]
    )
    nobody = await authorize(table.nc, AuthorizeRequest(user_id="nobody", issued_at=issued_at))

    assert isinstance(event.payload, AccessRevoked)
    assert (old.revoked, new.revoked, nobody.revoked) == (True, False, True)


async def test_members_change_while_the_broker_is_dead_and_the_event_follows_once_it_is_back(
    table: Table, stream: NatsServer
) -> None:
    stream.kill()
    added = await table.add("stranger", "viewer")
    stream.start()
    stranger = table.people["stranger"].id
    subject = f"campaign.c1.member.{stranger}"
    async with connected(stream, "setup") as setup, asyncio.timeout(20):
        while True:
            question = json.dumps({"last_by_subj": subject}).encode()
            answer = json.loads((await setup.request("$JS.API.STREAM.MSG.GET.EVENTS", question)).data)
            if "message" in answer:
                break

    assert added.status == 201
    assert await _role_again(table, "stranger") is Role.VIEWER


async def _role_again(table: Table, name: str) -> Role | None:
    """Ask until auth's connection is back as well."""
    while True:
        try:
            return await table.role_of(name, timeout_s=2)
        except AuthUnavailable:
            continue

"""Backends manage access with a service token: over HTTP and over the broker, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import AuthorizeRequest
from beaconfire_kit.backend import MAX_CHANGES, Backend, MemberChange, Revocation, User
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.roles import Role
from beaconfire_kit.settings import DEVELOPMENT_SERVICE_TOKEN
from tests.asking import authorize
from tests.auth.conftest import Answer, Auth, Table, running_auth, table
from tests.auth.roots import push
from tests.conftest import connected
from tests.databases import on_both_databases

pytestmark = on_both_databases

ISSUER = {
    "name": "acme",
    "issuer": "https://id.example",
    "jwksUrl": "http://127.0.0.1:1/keys",
    "audience": "beaconfire",
}
ALL = ("workspace.*.member.*", "campaign.*.member.*", "user.*.access")


@dataclass
class Depot:
    """A backend with a service token, and what it hears on the stream."""

    table: Table
    token: str
    token_id: str

    @property
    def auth(self) -> Auth:
        return self.table.auth

    async def call(self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any) -> Answer:
        return await self.auth.call(method, path, body, token=token or self.token, **more)

    async def put(self, root: str, user: str, role: str) -> Answer:
        return await self.call("PUT", f"/auth/roots/{root}/members/{user}", {"role": role})

    async def bulk(self, *members: Any, **more: Any) -> Answer:
        return await self.call("POST", "/auth/members/bulk", {"members": list(members), **more})

    async def members(self, root: str) -> dict[str, str]:
        answer = await self.call("GET", f"/auth/roots/{root}/members?limit=1000")
        return {member["userId"]: member["role"] for member in answer.body["members"]}

    async def heard(self, count: int) -> list[tuple[str, str | None]]:
        """The next changes of membership: user and role."""
        payloads: list[Any] = [(await self.table.next_event()).payload for _ in range(count)]
        return [(one.user_id, one.role) for one in payloads]


async def service_token(auth: Auth, *patterns: str, service: str = "depot-backend") -> tuple[str, str]:
    """Issue a service token: its text and its id."""
    answer = await auth.operate("POST", "service-tokens", {"service": service, "publish": patterns})
    assert answer.status == 201, answer
    return answer.body["token"], answer.body["serviceToken"]["id"]


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Auth]:
    async with running_auth(stream, tmp_path, outside_issuers=[ISSUER]) as auth:
        yield auth


@pytest.fixture(name="depot")
async def _depot(auth: Auth, stream: NatsServer) -> AsyncIterator[Depot]:
    async with table(auth, stream) as made:
        token, token_id = await service_token(auth, *ALL)
        yield Depot(made, token, token_id)


@pytest.fixture(name="backend")
async def _backend(depot: Depot, stream: NatsServer) -> AsyncIterator[Backend]:
    async with connected(stream, "publisher") as nc:
        yield Backend(nc, depot.token, timeout_s=20)


async def test_backend_creates_a_root_with_its_owner_and_a_repeat_changes_and_publishes_nothing(depot: Depot) -> None:
    body = {"root": "workspace:w1", "owner": {"userId": "acme-42"}}
    first = await depot.call("POST", "/auth/roots", body, headers={"X-Correlation-Id": "req-9"})
    again = await depot.call("POST", "/auth/roots", body)
    await depot.put("campaign:c1", "acme-43", "viewer")
    created, other = await depot.table.next_event(), await depot.table.next_event()

    assert (first.status, again.status) == (201, 200)
    assert first.body == {"root": "workspace:w1", "member": {"userId": "acme-42", "role": "owner"}, "changed": True}
    assert isinstance(created.payload, MemberChanged)
    assert (created.payload.root_kind, created.payload.root_id) == ("workspace", "w1")
    assert (created.payload.user_id, created.payload.role) == ("acme-42", Role.OWNER)
    assert (created.metadata.source, created.metadata.user_id) == ("depot-backend", None)
    assert created.metadata.correlation_id == "req-9"
    assert other.payload.user_id == "acme-43"  # type: ignore[attr-defined]


async def test_late_repeat_of_a_creation_does_not_bring_a_removed_owner_back(depot: Depot) -> None:
    body = {"root": "workspace:w1", "owner": {"userId": "acme-42"}}
    await depot.call("POST", "/auth/roots", body)
    await depot.put("workspace:w1", "acme-43", "owner")
    await depot.call("DELETE", "/auth/roots/workspace:w1/members/acme-42")
    late = await depot.call("POST", "/auth/roots", body)

    assert late.code == "conflict"
    assert await depot.members("workspace:w1") == {"acme-43": "owner"}


async def test_member_is_put_changed_read_and_removed_each_time_idempotently(depot: Depot) -> None:
    answers = [await depot.put("workspace:w1", "acme-42", role) for role in ("viewer", "viewer", "editor")]
    read = await depot.call("GET", "/auth/roots/workspace:w1/members/acme-42")
    removed = [await depot.call("DELETE", "/auth/roots/workspace:w1/members/acme-42") for _ in range(2)]
    gone = await depot.call("GET", "/auth/roots/workspace:w1/members/acme-42")

    assert [answer.body["changed"] for answer in answers] == [True, False, True]
    assert read.body["member"] == {
        "userId": "acme-42",
        "name": "acme-42",
        "email": "acme-42@acme.invalid",
        "role": "editor",
        "placeholder": True,
    }
    assert [answer.status for answer in removed] == [204, 204]
    assert gone.code == "not_found"
    assert await depot.heard(3) == [("acme-42", "viewer"), ("acme-42", "editor"), ("acme-42", None)]


async def test_user_of_an_issuer_is_named_by_issuer_and_subject(depot: Depot) -> None:
    path = "/auth/roots/workspace:w1/members/-"
    by_name = await depot.call("PUT", path, {"role": "viewer"}, params={"issuer": "acme", "sub": "42"})
    by_iss = await depot.call("PUT", path, {"role": "viewer"}, params={"issuer": "https://id.example", "sub": "42"})
    odd = await depot.call("PUT", path, {"role": "viewer"}, params={"issuer": "acme", "sub": "auth0|a/b ü"})
    unknown = await depot.call("PUT", path, {"role": "viewer"}, params={"issuer": "other", "sub": "42"})

    assert by_name.body["member"]["userId"] == "acme-42"
    assert (by_name.body["changed"], by_iss.body["changed"]) == (True, False)
    assert odd.body["member"]["userId"].startswith("acme_")
    assert unknown.code == "bad_request"
    assert "It knows acme" in unknown.body["error"]["message"]


async def test_last_owner_may_go_because_the_backend_owns_the_data(depot: Depot) -> None:
    owner = depot.table.people["owner"]
    removed = await depot.call("DELETE", f"/auth/roots/campaign:c1/members/{owner.id}")
    demoted = await depot.put("campaign:c1", depot.table.people["editor"].id, "viewer")

    assert removed.status == 204
    assert demoted.status == 200
    assert "owner" not in (await depot.members("campaign:c1")).values()


async def test_bulk_changes_are_made_in_order_and_each_has_its_own_result(depot: Depot) -> None:
    editor = depot.table.people["editor"].id
    answer = await depot.bulk(
        {"root": "workspace:w1", "userId": "acme-1", "role": "viewer"},
        {"root": "workspace:w1", "issuer": "acme", "sub": "1", "role": "editor"},
        {"root": "campaign:c1", "userId": editor, "role": "editor"},
        {"root": "campaign:c1", "userId": editor, "role": None},
        {"root": "campaign:c1", "userId": "nobody", "role": None},
        {"root": "campaign:c1", "userId": "nobody", "role": "viewer"},
        {"root": "campaign:c1", "userId": "acme-1", "role": "king"},
        {"root": "settlement:s1", "userId": "acme-1", "role": "viewer"},
        {"root": "campaign:*", "userId": "acme-1", "role": "viewer"},
        {"root": "campaign:c1", "userId": "acme-1"},
        {"root": "campaign:c1", "userId": "acme-1", "sub": "1", "issuer": "acme", "role": "viewer"},
        "not an object",
    )
    results = [one.get("changed", one.get("error", {}).get("code")) for one in answer.body["results"]]

    assert results == [True, True, False, True, False, "not_found", *["bad_request"], "forbidden", *["bad_request"] * 4]
    assert {name: answer.body[name] for name in ("changed", "unchanged", "refused")} == {
        "changed": 3,
        "unchanged": 2,
        "refused": 7,
    }
    assert await depot.members("workspace:w1") == {"acme-1": "editor"}
    assert editor not in await depot.members("campaign:c1")
    heard = await depot.heard(3)  # roots go their way independently
    assert [one for one in heard if one[0] == "acme-1"] == [("acme-1", "viewer"), ("acme-1", "editor")]
    assert (editor, None) in heard


async def test_bulk_of_the_greatest_size_is_one_call_and_one_more_is_refused(depot: Depot) -> None:
    members = [{"root": "workspace:w1", "userId": f"acme-{n}", "role": "viewer"} for n in range(MAX_CHANGES)]
    first = await depot.bulk(*members)
    again = await depot.bulk(*members)
    over = await depot.bulk(*members, members[0])
    pages = [(await depot.call("GET", "/auth/roots/workspace:w1/members?limit=400")).body]
    pages.append((await depot.call("GET", f"/auth/roots/workspace:w1/members?limit=400&after={pages[0]['next']}")).body)

    assert (first.body["changed"], again.body["unchanged"]) == (MAX_CHANGES, MAX_CHANGES)
    assert over.code == "bad_request"
    assert [len(page["members"]) for page in pages] == [400, MAX_CHANGES - 400]
    assert pages[1]["next"] is None
    assert len({user for user, _ in await depot.heard(MAX_CHANGES)}) == MAX_CHANGES


async def test_dry_run_answers_what_would_happen_and_changes_nothing(depot: Depot) -> None:
    member = {"root": "workspace:w1", "userId": "acme-1", "role": "viewer"}
    planned = await depot.bulk(member, member, dryRun=True)
    made = await depot.bulk(member, member)

    assert planned.body == made.body
    assert made.body["changed"] == 1


async def test_deleting_a_root_removes_every_member_and_publishes_each_removal(depot: Depot) -> None:
    members = [{"root": "workspace:w1", "userId": f"acme-{n}", "role": "viewer"} for n in range(MAX_CHANGES)]
    await depot.bulk(*members)
    await depot.put("workspace:w1", "acme-last", "owner")
    deleted = await depot.call("DELETE", "/auth/roots/workspace:w1")
    again = await depot.call("DELETE", "/auth/roots/workspace:w1")

    assert (deleted.body, again.body) == ({"removed": MAX_CHANGES + 1}, {"removed": 0})
    assert await depot.members("workspace:w1") == {}
    heard = await depot.heard(2 * (MAX_CHANGES + 1))
    assert [role for _, role in heard[MAX_CHANGES + 1 :]] == [None] * (MAX_CHANGES + 1)


async def test_roots_of_a_kind_are_listed_with_the_number_of_their_members(depot: Depot) -> None:
    for root in ("w1", "w2", "w3"):
        await depot.put(f"workspace:{root}", "acme-1", "owner")
    await depot.put("workspace:w2", "acme-2", "viewer")
    first = (await depot.call("GET", "/auth/roots?kind=workspace&limit=2")).body
    rest = (await depot.call("GET", f"/auth/roots?kind=workspace&after={first['next']}")).body

    assert first["roots"] == [{"root": "workspace:w1", "members": 1}, {"root": "workspace:w2", "members": 2}]
    assert rest == {"roots": [{"root": "workspace:w3", "members": 1}], "next": None}


@pytest.mark.parametrize(
    ("patterns", "root", "allowed"),
    [
        (["campaign.c1.member.*"], "campaign:c1", True),
        (["campaign.c1.member.*"], "campaign:c2", False),
        (["workspace.*.member.*"], "campaign:c1", False),
        (["campaign.>"], "campaign:c1", False),
        (["campaign.*.*.*"], "campaign:c1", False),
        (["campaign.*.member.acme-1"], "campaign:c1", True),
        (["campaign.*.member.acme-2"], "campaign:c1", False),
        (["user.*.access"], "campaign:c1", False),
        (["user.>"], "user:acme-1", False),
    ],
)
async def test_token_changes_members_only_where_a_pattern_of_its_own_names_them(
    depot: Depot, patterns: list[str], root: str, allowed: bool
) -> None:
    token, _ = await service_token(depot.auth, *patterns)
    path = f"/auth/roots/{root}/members/acme-1"
    answer = await depot.call("PUT", path, {"role": "viewer"}, token=token)

    assert answer.status == (200 if allowed else 403), answer
    if not allowed:
        assert f"issue one for {root.split(':')[0]}.*.member.*" in answer.body["error"]["message"]


async def test_right_over_one_root_or_user_lists_and_deletes_nothing_else(depot: Depot) -> None:
    one_root, _ = await service_token(depot.auth, "campaign.c1.member.*")
    one_user, _ = await service_token(depot.auth, "campaign.*.member.acme-1")
    calls = (("GET", "/auth/roots?kind=campaign"), ("GET", "/auth/roots/campaign:c1/members"))
    allowed = [(await depot.call(*call, token=token)).status for token in (one_root, one_user) for call in calls]

    assert allowed == [403, 200, 403, 403]
    assert (await depot.call("DELETE", "/auth/roots/campaign:c1", token=one_user)).status == 403
    assert (await depot.call("DELETE", "/auth/roots/campaign:c1", token=one_root)).body == {"removed": 3}


async def test_ending_access_needs_a_right_of_its_own(depot: Depot) -> None:
    token, _ = await service_token(depot.auth, "campaign.*.member.*", "user.>", "workspace.>")
    disconnect = await depot.call("POST", "/auth/users/acme-1/disconnect", token=token)
    revoke = await depot.call("POST", "/auth/revocations", {"userId": "acme-1"}, token=token)
    of_root = await depot.call("POST", "/auth/revocations", {"userId": "acme-1", "root": "campaign:c1"}, token=token)
    elsewhere = await depot.call("POST", "/auth/revocations", {"userId": "acme-1", "root": "workspace:w"}, token=token)

    assert [one.status for one in (disconnect, revoke, of_root, elsewhere)] == [403, 403, 200, 403]
    assert "user.*.access" in disconnect.body["error"]["message"]


async def test_revocation_with_a_moment_is_applied_once_and_spares_later_sign_ins(depot: Depot) -> None:
    viewer = depot.table.people["viewer"]
    revoked = await depot.call("POST", "/auth/revocations", {"userId": viewer.id})
    event = await depot.table.next_event()
    moment = event.payload.issued_before  # type: ignore[attr-defined]
    fresh = (await depot.auth.sign_in("viewer")).body
    body = {"userId": viewer.id, "issuedBefore": moment.isoformat()}
    repeated = [await depot.call("POST", "/auth/revocations", body) for _ in range(2)]
    await depot.put("campaign:c1", "acme-9", "viewer")
    later = await depot.table.next_event()

    assert (event.payload.reason, event.metadata.source) == ("revoked", "depot-backend")  # type: ignore[attr-defined]
    assert [one.body for one in repeated] == [revoked.body, revoked.body]
    assert later.payload.user_id == "acme-9"  # type: ignore[attr-defined]
    assert (await depot.call("GET", "/auth/me", token=viewer.token)).status == 401
    assert (await depot.call("GET", "/auth/me", token=fresh["accessToken"])).status == 200
    assert (await depot.auth.call("POST", "/auth/refresh", {"refreshToken": viewer.refresh_token})).status == 401
    assert (await depot.auth.call("POST", "/auth/refresh", {"refreshToken": fresh["refreshToken"]})).status == 200


async def test_user_who_never_connected_can_be_revoked_beforehand(depot: Depot) -> None:
    answer = await depot.call("POST", "/auth/revocations", {"issuer": "acme", "sub": "early"})
    event = await depot.table.next_event()
    old = await authorize(depot.table.nc, AuthorizeRequest(user_id="acme-early", issued_at=1_000_000))

    assert answer.status == 200
    assert event.payload.user_id == "acme-early"  # type: ignore[attr-defined]
    assert old.revoked


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "/auth/roots", {"root": "workspace:w1"}, "owner"),
        ("POST", "/auth/roots", {"root": "workspace", "owner": {"userId": "acme-1"}}, "kind:id"),
        ("POST", "/auth/roots", {"root": "auth:x", "owner": {"userId": "acme-1"}}, "reserved"),
        ("POST", "/auth/roots", {"root": "workspace:w1", "owner": {"userId": "acme-*"}}, "userId"),
        ("POST", "/auth/roots", {"root": "workspace:w1", "owner": {}}, "name the user"),
        ("POST", "/auth/roots", {"root": "workspace:w1", "owner": {"issuer": "acme"}}, "name the user"),
        ("POST", "/auth/roots", {"root": "workspace:w1", "owner": {"issuer": "acme", "sub": "a\0"}}, "sub"),
        ("PUT", "/auth/roots/workspace:w1/members/acme-1", {"role": "king"}, "role"),
        ("PUT", "/auth/roots/workspace:w1/members/acme-1", {"role": "viewer", "root": "workspace:w2"}, "address"),
        ("PUT", "/auth/roots/workspace:w1/members/-", {"role": "viewer"}, "issuer"),
        ("PUT", "/auth/roots/workspace:w1/members/a?issuer=acme&sub=1", {"role": "viewer"}, "names a user already"),
        ("PUT", "/auth/roots/workspace:w1/members/acme-1", b"[1]", "object"),
        ("PUT", "/auth/roots/workspace:w1/members/acme-1", b"{", "JSON"),
        ("PUT", "/auth/roots/workspace:w1%00/members/acme-1", {"role": "viewer"}, "kind:id"),
        ("POST", "/auth/members/bulk", {"members": []}, "members"),
        ("POST", "/auth/members/bulk", {"members": {}}, "members"),
        ("POST", "/auth/revocations", {"userId": "acme-1", "issuedBefore": "9999-01-01T00:00:00Z"}, "future"),
        ("POST", "/auth/revocations", {"userId": "acme-1", "issuedBefore": "2026-01-01T00:00:00"}, "zone"),
        ("POST", "/auth/revocations", {"userId": "acme-1", "root": "user:acme-1"}, "leave it out"),
        ("GET", "/auth/roots", None, "kind"),
        ("GET", "/auth/roots?kind=campaign&limit=0", None, "limit"),
        ("GET", "/auth/roots?kind=campaign&limit=9999999999999999999999", None, "limit"),
        ("GET", "/auth/roots/workspace:w1/members?after=%00", None, "after"),
    ],
)
async def test_malformed_calls_are_refused_with_what_is_wrong(
    depot: Depot, method: str, path: str, body: Any, says: str
) -> None:
    answer = await depot.call(method, path, body)

    assert answer.status == 400, answer
    assert says in answer.body["error"]["message"]


async def test_bulk_of_many_unknown_kinds_reads_the_catalogue_once(depot: Depot, stream: NatsServer) -> None:
    changes = [MemberChange(root=f"kind{n}:x", user_id="acme-1", role=Role.VIEWER) for n in range(200)]
    async with connected(stream, "publisher") as nc:
        results = await Backend(nc, DEVELOPMENT_SERVICE_TOKEN, timeout_s=20).change_members(changes)

    told = {one.message for one in results if isinstance(one, BeaconfireError)}
    assert len(told) == 200
    assert all("is not a kind of root in the catalogue" in message for message in told)


async def test_members_of_a_kind_that_has_left_the_catalogue_can_still_be_listed_and_removed(
    depot: Depot, stream: NatsServer
) -> None:
    await push(stream)
    depot.token, _ = await service_token(depot.auth, "depot.*.member.*")
    await depot.put("depot:d1", "acme-1", "owner")
    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).remove(["logistics"], by="test")
    async with asyncio.timeout(20):
        while (await depot.put("depot:d1", "acme-2", "viewer")).status == 200:
            pass
    before = await depot.members("depot:d1")
    deleted = await depot.call("DELETE", "/auth/roots/depot:d1")

    assert before.pop("acme-1") == "owner"
    assert deleted.body["removed"] == len(before) + 1
    assert await depot.members("depot:d1") == {}


async def test_roots_of_a_kind_without_members_are_refused(depot: Depot) -> None:
    token, _ = await service_token(depot.auth, "user.*.member.*")
    answer = await depot.call("PUT", "/auth/roots/user:acme-1/members/acme-2", {"role": "viewer"}, token=token)

    assert answer.code == "bad_request"
    assert "no members" in answer.body["error"]["message"]


async def test_body_over_the_limit_gets_413(depot: Depot) -> None:
    member = {"root": "workspace:w1", "issuer": "acme", "sub": "x" * 1_000, "role": "viewer"}
    answer = await depot.bulk(*[member] * 400)

    assert answer.status == 413


async def test_users_are_refused_calls_of_backends_and_services_those_of_users(depot: Depot) -> None:
    owner = depot.table.people["owner"].token
    for method, path in (
        ("POST", "/auth/roots"),
        ("GET", "/auth/roots?kind=campaign"),
        ("DELETE", "/auth/roots/campaign:c1"),
        ("GET", "/auth/roots/campaign:c1/members/acme-1"),
        ("POST", "/auth/members/bulk"),
        ("POST", "/auth/users/acme-1/disconnect"),
        ("POST", "/auth/revocations"),
    ):
        answer = await depot.call(method, path, {}, token=owner)
        assert (answer.status, answer.body["error"]["message"]) == (403, "this call needs a service token"), path
    body = {"email": "stranger@auth.example", "role": "viewer"}
    assert (await depot.call("POST", "/auth/roots/campaign:c1/members", body)).status == 401


@pytest.mark.parametrize("text", [DEVELOPMENT_SERVICE_TOKEN, "nonsense", ""])
async def test_over_http_only_an_issued_token_counts(depot: Depot, text: str) -> None:
    put = await depot.auth.call("PUT", "/auth/roots/workspace:w1/members/acme-1", {"role": "viewer"}, token=text)
    create = await depot.auth.call("POST", "/auth/roots", {}, token=text)

    assert (put.status, create.status) == (401, 401)


async def test_token_revoked_between_two_calls_is_refused_on_every_path(depot: Depot, backend: Backend) -> None:
    before = await depot.put("workspace:w1", "acme-1", "viewer")
    await depot.auth.operate("DELETE", f"service-tokens/{depot.token_id}")
    after = await depot.put("workspace:w1", "acme-2", "viewer")
    with pytest.raises(BeaconfireError) as refused:
        await backend.put_member("workspace:w1", User(user_id="acme-2"), Role.VIEWER)

    assert (before.status, after.status) == (200, 401)
    assert refused.value.code.code == "token_invalid"
    depot.token, _ = await service_token(depot.auth, *ALL)
    assert await depot.members("workspace:w1") == {"acme-1": "viewer"}


async def test_token_revoked_while_the_body_arrives_is_refused(depot: Depot) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"root": "workspace:w1", '
        await depot.auth.operate("DELETE", f"service-tokens/{depot.token_id}")
        yield b'"owner": {"userId": "acme-1"}}'

    answer = await depot.auth.stream("POST", "/auth/roots", slowly(), token=depot.token)
    depot.token, _ = await service_token(depot.auth, *ALL)

    assert answer.status == 401
    assert await depot.members("workspace:w1") == {}


async def test_two_backends_that_create_one_root_at_once_make_one_owner(depot: Depot) -> None:
    tokens = [(await service_token(depot.auth, "workspace.*.member.*", service=f"s{n}"))[0] for n in range(2)]
    bodies = [{"root": "workspace:w1", "owner": {"userId": f"acme-{n % 2}"}} for n in range(12)]
    calls = (depot.call("POST", "/auth/roots", body, token=tokens[n % 2]) for n, body in enumerate(bodies))
    answers = await asyncio.gather(*calls)

    assert sorted(answer.status for answer in answers) == [200] * 5 + [201] + [409] * 6
    assert len(await depot.members("workspace:w1")) == 1


async def test_crossed_calls_end_in_the_state_of_the_last_event(depot: Depot) -> None:
    """Put and remove the same members from two sides at once: table and stream agree."""
    puts = [{"root": "workspace:w1", "userId": f"acme-{n}", "role": "viewer"} for n in range(20)]
    removals = [{**one, "role": None} for one in reversed(puts)]
    answers = await asyncio.gather(*(depot.bulk(*members) for members in (puts, removals, puts, removals, puts)))
    changes = sum(answer.body["changed"] for answer in answers)
    last = dict(await depot.heard(changes))

    assert {user: role for user, role in last.items() if role is not None} == await depot.members("workspace:w1")
    assert {answer.status for answer in answers} == {200}


async def test_same_new_user_in_crossed_calls_is_created_once(depot: Depot) -> None:
    calls = (depot.put(f"workspace:w{n}", "acme-new", "viewer") for n in range(10))
    answers = await asyncio.gather(*calls)

    assert [answer.body["changed"] for answer in answers] == [True] * 10
    assert [await depot.members(f"workspace:w{n}") for n in range(10)] == [{"acme-new": "viewer"}] * 10


async def test_service_over_its_limit_is_told_when_to_try_again(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path, outside_issuers=[ISSUER], service_changes_per_minute=10) as auth:
        token, _ = await service_token(auth, *ALL)
        members = [{"root": "workspace:w1", "userId": f"acme-{n}", "role": "viewer"} for n in range(8)]
        within = await auth.call("POST", "/auth/members/bulk", {"members": members}, token=token)
        over = await auth.call("POST", "/auth/members/bulk", {"members": members}, token=token)
        other, _ = await service_token(auth, *ALL, service="other")
        elsewhere = await auth.call("POST", "/auth/members/bulk", {"members": members}, token=other)

        assert (within.status, over.status, elsewhere.status) == (200, 429, 200)
        assert 0 < over.body["error"]["retryAfterMs"] <= 60_000
        assert int(over.headers["Retry-After"]) >= 1
        assert "changes by this service" in over.body["error"]["message"]


@pytest.mark.parametrize(("service", "source"), [("Shop_1", "shop_1"), ("-" * 64, "s" + "-" * 63)])
async def test_changes_of_a_service_with_any_name_are_published(depot: Depot, service: str, source: str) -> None:
    token, _ = await service_token(depot.auth, *ALL, service=service)
    answer = await depot.call("PUT", "/auth/roots/workspace:w1/members/acme-1", {"role": "viewer"}, token=token)

    assert answer.status == 200
    assert (await depot.table.next_event()).metadata.source == source


async def test_every_call_works_over_the_broker(depot: Depot, backend: Backend) -> None:
    user = User.outside("acme", "42")
    created = [await backend.create_root("workspace:w1", owner=user, correlation_id="req-3") for _ in range(2)]
    put = [await backend.put_member("workspace:w1", User(user_id="acme-43"), Role.VIEWER) for _ in range(2)]
    changes = [
        MemberChange(root="workspace:w1", user_id="acme-43", role=None),
        MemberChange(root="workspace:w1", user_id="nobody", role=Role.VIEWER),
        MemberChange(root="campaign:c1", issuer="acme", sub="42", role=Role.EDITOR),
    ]
    changed = await backend.change_members(changes)
    removed = await backend.remove_member("campaign:c1", user)
    deleted = await backend.delete_root("workspace:w1")
    await backend.disconnect(user)
    await backend.revoke(Revocation(user_id="acme-42", root="workspace:w1"))
    events = [await depot.table.next_event() for _ in range(8)]

    assert (created, put, removed, deleted) == ([True, False], [True, False], True, 1)
    assert [one if isinstance(one, bool) else one.code.code for one in changed] == [True, "not_found", True]
    assert events[0].metadata.correlation_id == "req-3"
    assert {event.metadata.source for event in events} == {"depot-backend"}
    assert [getattr(event.payload, "reason", None) for event in events[-2:]] == ["disconnected", "revoked"]


async def test_refusals_over_the_broker_say_what_is_wrong(depot: Depot, stream: NatsServer) -> None:
    async def ask(subject: str, body: bytes) -> Any:
        return json.loads((await nc.request(subject, body, timeout=20)).data)["error"]

    good = {"serviceToken": depot.token, "request": {"root": "workspace:w1", "userId": "acme-1", "role": "viewer"}}
    async with connected(stream, "publisher") as nc:
        no_json = await ask("auth.access.put_member", b"{")
        no_token = await ask("auth.access.put_member", json.dumps({"request": good["request"]}).encode())
        no_call = await ask("auth.access.make_king", json.dumps(good).encode())
        no_role = await ask(
            "auth.access.put_member", json.dumps({**good, "request": {"root": "workspace:w1"}}).encode()
        )

    assert [one["code"] for one in (no_json, no_token, no_call, no_role)] == [
        "bad_request",
        "bad_request",
        "not_found",
        "bad_request",
    ]
    assert "put_member" in no_call["message"]


async def test_shared_token_of_the_settings_changes_members_over_the_broker_but_ends_no_access(
    depot: Depot, stream: NatsServer
) -> None:
    async with connected(stream, "publisher") as nc:
        backend = Backend(nc, DEVELOPMENT_SERVICE_TOKEN, timeout_s=20)
        made = await backend.create_root("workspace:w1", owner=User(user_id="acme-1"))
        with pytest.raises(BeaconfireError) as refused:
            await backend.disconnect(User(user_id="acme-1"))

    assert made
    assert refused.value.code.code == "forbidden"
    assert (await depot.table.next_event()).metadata.source == "auth"

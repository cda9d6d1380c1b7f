"""Members of roots: over HTTP, over the broker, and as events on the stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from shared import broker
from shared.authorization import AuthorizeRequest, AuthUnavailable, GrantRequest, authorize, grant
from shared.envelope import Received, read
from shared.errors import BeaconfireError
from shared.events.user import AccessRevoked, MemberChanged
from shared.roles import Role
from tests.auth.conftest import Auth, Person, running_auth
from tests.conftest import connected
from tools.nats_server import NatsServer


class Table:
    """A campaign with an owner, an editor, a viewer, and a stranger who is none of them."""

    def __init__(self, auth: Auth, nc: Client, heard: "asyncio.Queue[Received]") -> None:
        self.auth = auth
        self.nc = nc
        self._heard = heard
        self.people: dict[str, Person] = {}
        self.path = "/auth/roots/campaign:c1/members"

    async def next_event(self) -> Received:
        async with asyncio.timeout(10):
            return await self._heard.get()

    async def add(self, name: str, role: str, *, by: str = "owner") -> Any:
        body = {"email": self.people[name].email, "role": role}
        return await self.auth.call("POST", self.path, body, token=self.people[by].token)

    async def role_of(self, name: str) -> Role | None:
        person = self.people[name]
        reply = await authorize(self.nc, AuthorizeRequest(user_id=person.id, rooms=("campaign:c1",)))
        return reply.rooms["campaign:c1"].role


@asynccontextmanager
async def table(auth: Auth, server: NatsServer) -> AsyncIterator[Table]:
    heard: asyncio.Queue[Received] = asyncio.Queue()

    async def hear(message: Any) -> None:
        heard.put_nowait(read(message.subject.removeprefix("live."), message.data))

    async with connected(server, "publisher") as nc, connected(server, "gateway") as gateway:
        await gateway.subscribe("live.campaign.*.member.*", cb=hear)
        await gateway.subscribe("live.user.*.access", cb=hear)
        await gateway.flush()
        made = Table(auth, nc, heard)
        for name in ("owner", "editor", "viewer", "stranger"):
            made.people[name] = await auth.sign_up(name)
        await grant(nc, GrantRequest(root="campaign:c1", user_id=made.people["owner"].id, role=Role.OWNER))
        await made.next_event()
        for name in ("editor", "viewer"):
            assert (await made.add(name, name)).status == 201
            await made.next_event()
        yield made


@pytest.fixture(name="table")
async def _table(auth: Auth, stream: NatsServer) -> AsyncIterator[Table]:
    async with table(auth, stream) as made:
        yield made


async def test_members_are_listed(table: Table) -> None:
    """Every member sees all of them; a stranger is refused as if there were no such campaign."""
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
async def test_only_owners_change_members(table: Table, name: str) -> None:
    """Adding, changing and removing is for owners."""
    token, editor = table.people[name].token, table.people["editor"].id
    added = await table.add("stranger", "viewer", by=name)
    changed = await table.auth.call("PUT", f"{table.path}/{table.people['viewer'].id}", {"role": "owner"}, token=token)
    other = editor if name != "editor" else table.people["viewer"].id
    removed = await table.auth.call("DELETE", f"{table.path}/{other}", token=token)

    assert [answer.status for answer in (added, changed, removed)] == [403, 403, 403]


async def test_change_and_its_event(table: Table) -> None:
    """Each change is answered, takes effect at once, and is an event with who did it and in which request."""
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


async def test_same_role_again(table: Table) -> None:
    """A change that changes nothing is no event."""
    viewer = table.people["viewer"]
    same = await table.auth.call(
        "PUT", f"{table.path}/{viewer.id}", {"role": "viewer"}, token=table.people["owner"].token
    )
    await table.add("stranger", "viewer")
    event = await table.next_event()

    assert same.status == 200
    assert event.payload.user_id == table.people["stranger"].id  # type: ignore[attr-defined]


async def test_remove(table: Table) -> None:
    """Who is removed has no role any more; members may leave by themselves."""
    token, viewer, editor = table.people["owner"].token, table.people["viewer"], table.people["editor"]
    removed = await table.auth.call("DELETE", f"{table.path}/{viewer.id}", token=token)
    left = await table.auth.call("DELETE", f"{table.path}/{editor.id}", token=editor.token)
    twice = await table.auth.call("DELETE", f"{table.path}/{viewer.id}", token=token)
    events = [(await table.next_event()).payload for _ in range(2)]

    assert (removed.status, left.status, twice.status) == (204, 204, 404)
    assert [(event.user_id, event.role) for event in events] == [(viewer.id, None), (editor.id, None)]  # type: ignore[attr-defined]
    assert await table.role_of("viewer") is None


async def test_last_owner_stays(table: Table) -> None:
    """A root is never left without an owner."""
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
async def test_refused_additions(table: Table, body: dict[str, str], status: int) -> None:
    """Unknown people, members already, and roles that are none are refused."""
    answer = await table.auth.call("POST", table.path, body, token=table.people["owner"].token)

    assert answer.status == status


@pytest.mark.parametrize("root", ["nonsense", "campaign:", "campaign:*", "settlement:s1", "user:u1"])
async def test_no_such_root(table: Table, root: str) -> None:
    """What is no root with members is refused, whatever it is."""
    answer = await table.auth.call("GET", f"/auth/roots/{root}/members", token=table.people["owner"].token)

    assert answer.status in (400, 403)


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


async def test_authorize_roots(table: Table) -> None:
    """A service may ask for all of a user's roots of a kind."""
    reply = await authorize(table.nc, AuthorizeRequest(user_id=table.people["viewer"].id, roots_of="campaign"))

    assert reply.roots == {"campaign:c1": Role.VIEWER}


async def test_parents_are_learnt(table: Table) -> None:
    """A bare room is found in its root once a subject has shown it; only members of that root may see it."""
    offset = await broker.publish(table.nc, "campaign.c1.settlement.s1.structure.t1", b"{}", message_id="a")
    offset = await broker.publish(table.nc, "campaign.c9.settlement.s9", b"{}", message_id="b")
    rooms = ("settlement:s1", "structure:t1", "settlement:s9", "settlement:unknown")
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=rooms, after=offset)
    reply = await authorize(table.nc, question)
    stranger = await authorize(table.nc, question.model_copy(update={"user_id": table.people["stranger"].id}))

    assert [decision.allowed for decision in reply.rooms.values()] == [True, True, False, False]
    assert reply.rooms["structure:t1"].root == "campaign:c1"
    assert not [decision for decision in stranger.rooms.values() if decision.allowed]


async def test_parents_outlive_a_restart(stream: NatsServer, tmp_path: Path) -> None:
    """What was learnt is kept; what came while auth was away is learnt afterwards; malformed subjects do no harm."""
    async with running_auth(stream, tmp_path) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")
        await grant(nc, GrantRequest(root="campaign:c1", user_id=owner.id, role=Role.OWNER))
        first = await broker.publish(nc, "campaign.c1.settlement.s1", b"{}", message_id="a")
        await authorize(nc, AuthorizeRequest(user_id=owner.id, after=first))
    async with connected(stream, "publisher") as nc:
        await broker.publish(nc, "campaign.c1.wrong", b"{}", message_id="b")
        second = await broker.publish(nc, "campaign.c1.settlement.s2", b"{}", message_id="c")
        async with running_auth(stream, tmp_path):
            question = AuthorizeRequest(user_id=owner.id, rooms=("settlement:s1", "settlement:s2"), after=second)
            reply = await authorize(nc, question)

    assert [decision.allowed for decision in reply.rooms.values()] == [True, True]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b"{}", b'{"userId":"*"}', b'{"userId":"u","rooms":7}'],
)
@pytest.mark.parametrize("subject", ["auth.authorize", "auth.grant"])
async def test_never_silent(table: Table, subject: str, body: bytes) -> None:
    """Whatever is asked is answered, with an error that says what was wrong."""
    answer = json.loads((await table.nc.request(subject, body, timeout=2)).data)

    assert answer["error"]["code"] == "bad_request"


@pytest.mark.parametrize("root", ["nonsense", "user:u1", "settlement:s1", "campaign:*"])
async def test_grant_refused(table: Table, root: str) -> None:
    """A grant on what is no root with members, or to nobody, is refused."""
    with pytest.raises(BeaconfireError) as bad_root:
        await grant(table.nc, GrantRequest(root=root, user_id=table.people["owner"].id, role=Role.OWNER))
    with pytest.raises(BeaconfireError) as nobody:
        await grant(table.nc, GrantRequest(root="campaign:c5", user_id="nobody", role=Role.OWNER))

    assert (bad_root.value.code.code, nobody.value.code.code) == ("bad_room", "not_found")


async def test_grant_is_idempotent(table: Table) -> None:
    """The same grant twice is one change and one event."""
    question = GrantRequest(root="campaign:c2", user_id=table.people["stranger"].id, role=Role.OWNER)
    first, second = await grant(table.nc, question), await grant(table.nc, question)
    await table.add("stranger", "viewer")
    events = [(await table.next_event()).payload for _ in range(2)]

    assert first.version == second.version
    assert [event.root_id for event in events] == ["c2", "c1"]  # type: ignore[attr-defined]


async def test_revocation_is_an_event(table: Table) -> None:
    """Signing out everywhere reaches the stream, and `auth.authorize` calls the old token revoked, not the new one."""
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


async def test_killed_broker(table: Table, stream: NatsServer) -> None:
    """With the broker gone members still change; with it back the event is in the stream, and auth answers."""
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
            return await table.role_of(name)
        except AuthUnavailable:
            continue

"""Auth asks an application's authorizer about its roots, and stands whatever it answers, or does not."""

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from beaconfire.nats_server import NatsServer
from beaconfire_auth.authorizers import FAILURES, MAX_HELD, Authorizers
from beaconfire_auth.people import Person as Subject
from beaconfire_auth.revocations import Revocation, Revocations
from beaconfire_auth.settings import Settings
from beaconfire_auth.store import OUTBOX
from beaconfire_kit.authorization import AuthorizeRequest, RoomDecision
from beaconfire_kit.authorizer import MAX_ROOTS
from beaconfire_kit.database import Database
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from tests.asking import authorize, grant
from tests.auth.conftest import Auth, auth_settings, granting, running_auth
from tests.authorizers import FakeAuthorizer, write_secret
from tests.conftest import connected
from tests.databases import database_url, on_both_databases
from tests.people import Person

pytestmark = on_both_databases

W1 = Pair("workspace", "w1")
ALICE = Subject("shop-alice", "shop", "alice")


@pytest.fixture(name="authorizer")
async def _authorizer(tmp_path: Path) -> AsyncIterator[FakeAuthorizer]:
    async with FakeAuthorizer(write_secret(tmp_path), "workspace").running() as authorizer:
        yield authorizer


class Asked:
    """A running auth with an authorizer for workspaces, and one user."""

    def __init__(self, auth: Auth, person: Person, server: NatsServer, folder: Path) -> None:
        self.auth = auth
        self.person = person
        self.server = server
        self.folder = folder

    async def ask(self, *rooms: str) -> dict[str, RoomDecision]:
        async with connected(self.server, "gateway") as nc:
            reply = await authorize(nc, AuthorizeRequest(user_id=self.person.id, rooms=rooms), timeout_s=10)
        return dict(reply.rooms)

    @asynccontextmanager
    async def revoking(self) -> AsyncIterator[Revocations]:
        database = Database(database_url(self.folder, "auth"))
        try:
            yield Revocations(database, Outbox(database, OUTBOX))
        finally:
            await database.close()


@pytest.fixture(name="asked")
async def _asked(stream: NatsServer, tmp_path: Path, authorizer: FakeAuthorizer) -> AsyncIterator[Asked]:
    async with running_auth(stream, tmp_path, authorizers=(authorizer.setting,)) as auth:
        yield Asked(auth, await auth.sign_up("alice"), stream, tmp_path)


async def test_authorizers_role_opens_its_roots_and_none_closes_them(asked: Asked, authorizer: FakeAuthorizer) -> None:
    authorizer.roles = {"workspace:w1": {asked.person.id: "editor"}}
    rooms = await asked.ask("workspace:w1", "workspace:w1/chat:h1", "workspace:w2", "campaign:c1")

    assert rooms["workspace:w1"] == RoomDecision(allowed=True, root="workspace:w1", role=Role.EDITOR)
    assert rooms["workspace:w1/chat:h1"].role is Role.EDITOR
    assert [rooms[name].allowed for name in ("workspace:w2", "campaign:c1")] == [False, False]
    (question,) = authorizer.asked
    assert (question["userId"], sorted(question["roots"])) == (asked.person.id, ["workspace:w1", "workspace:w2"])


@pytest.mark.parametrize(
    ("member_as", "answered", "role"),
    [("viewer", "editor", "editor"), ("editor", "viewer", "editor"), ("viewer", None, "viewer")],
)
async def test_higher_of_membership_and_answer_counts(
    asked: Asked, authorizer: FakeAuthorizer, member_as: str, answered: str | None, role: str
) -> None:
    async with connected(asked.server, "publisher") as nc:
        await grant(nc, granting("workspace:w1", asked.person.id, Role(member_as)))
    authorizer.roles = {"workspace:w1": {asked.person.id: answered}} if answered else {}

    assert (await asked.ask("workspace:w1"))["workspace:w1"].role == role


def says(**fields: Any) -> Callable[[web.Request, Any], Awaitable[web.StreamResponse]]:
    """An answer with this JSON and everything else as it should be."""

    async def answer(_request: web.Request, _question: Any) -> web.StreamResponse:
        return web.json_response(fields)

    return answer


def responds(**options: Any) -> Callable[[web.Request, Any], Awaitable[web.StreamResponse]]:
    async def answer(_request: web.Request, _question: Any) -> web.StreamResponse:
        return web.Response(**options)

    return answer


async def _never(_request: web.Request, _question: Any) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _drips(request: web.Request, _question: Any) -> web.StreamResponse:
    """The beginning of an answer, so that only a limit on the whole of it ends it."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"{")
    return await _never(request, _question)


async def _cuts_off(request: web.Request, _question: Any) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


GOOD = b'{"version": 1, "roles": {"workspace:w1": "owner"}}'
BROKEN: dict[str, Callable[[web.Request, Any], Awaitable[web.StreamResponse]]] = {
    "redirects": responds(status=307, headers={"Location": "/authorize"}),
    "is not found": responds(status=404, body=GOOD),
    "fails": responds(status=500, body=GOOD),
    "has another status of success": responds(status=202, body=GOOD),
    "is empty": responds(status=200),
    "is not JSON": responds(body=b"owner"),
    "is not an object": responds(body=b'["owner"]'),
    "is too large": responds(body=GOOD + b" " * 65_536),
    "unpacks to too much": responds(body=gzip.compress(GOOD + b" " * 10_000_000), headers={"Content-Encoding": "gzip"}),
    "has no roles": says(version=1),
    "has no role for the root": says(version=1, roles={"workspace:w2": "owner"}),
    "has roles in a list": says(version=1, roles=["workspace:w1"]),
    "has an unknown role": says(version=1, roles={"workspace:w1": "admin"}),
    "has a role of another type": says(version=1, roles={"workspace:w1": True}),
    "has a version in words": says(version="1", roles={"workspace:w1": "owner"}),
    "has a version below zero": says(version=-1, roles={"workspace:w1": "owner"}),
    "has a version in fractions": says(version=1.5, roles={"workspace:w1": "owner"}),
    "never comes": _never,
    "never ends": _drips,
    "is cut off": _cuts_off,
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_broken_answer_gives_nothing_and_other_roots_are_decided(
    asked: Asked, authorizer: FakeAuthorizer, answer: Any
) -> None:
    async with connected(asked.server, "publisher") as nc:
        await grant(nc, granting("campaign:c1", asked.person.id, Role.VIEWER))
    authorizer.answer = answer
    rooms = await asked.ask("workspace:w1", "campaign:c1", f"user:{asked.person.id}")

    assert rooms["workspace:w1"] == RoomDecision(allowed=False, unavailable=True)
    assert rooms["campaign:c1"].allowed
    assert rooms[f"user:{asked.person.id}"].allowed


async def test_role_that_was_not_asked_for_is_not_believed(asked: Asked, authorizer: FakeAuthorizer) -> None:
    authorizer.answer = says(roles={"workspace:w1": "viewer", "workspace:w2": "owner", "campaign:c1": "owner"})
    await asked.ask("workspace:w1")
    authorizer.answer = authorizer.decide

    assert not (await asked.ask("campaign:c1"))["campaign:c1"].allowed
    assert not (await asked.ask("workspace:w2"))["workspace:w2"].allowed


async def test_membership_counts_while_the_authorizer_does_not_answer(asked: Asked, authorizer: FakeAuthorizer) -> None:
    async with connected(asked.server, "publisher") as nc:
        await grant(nc, granting("workspace:w1", asked.person.id, Role.VIEWER))
    authorizer.answer = responds(status=500)

    assert (await asked.ask("workspace:w1"))["workspace:w1"].role is Role.VIEWER


async def test_hanging_authorizer_does_not_hold_questions_about_other_roots(
    asked: Asked, authorizer: FakeAuthorizer
) -> None:
    authorizer.answer = _never
    async with connected(asked.server, "gateway") as nc:

        async def ask(room: str) -> bool:
            request = AuthorizeRequest(user_id=asked.person.id, rooms=(room,))
            return (await authorize(nc, request, timeout_s=10)).rooms[room].allowed

        hanging = [asyncio.create_task(ask(f"workspace:h{number}")) for number in range(2 * MAX_HELD)]
        async with asyncio.timeout(10):
            while not authorizer.asked:
                await asyncio.sleep(0)
        own = await ask(f"user:{asked.person.id}")
        is_still_hanging = not all(task.done() for task in hanging)
        allowed = await asyncio.gather(*hanging)

    assert own
    assert is_still_hanging
    assert not any(allowed)


async def test_revocation_overtakes_an_answer_on_its_way(asked: Asked, authorizer: FakeAuthorizer) -> None:
    async def answer_late(_request: web.Request, question: Any) -> web.StreamResponse:
        authorizer.answer = authorizer.decide
        before = await authorizer.decide(_request, question)
        authorizer.roles = {}
        async with asked.revoking() as revocations:
            await revocations.revoke(asked.person.id, W1)
        return before

    authorizer.roles = {"workspace:w1": {asked.person.id: "editor"}}
    authorizer.answer = answer_late
    rooms = await asked.ask("workspace:w1")

    assert not rooms["workspace:w1"].allowed
    assert len(authorizer.asked) == 2


async def test_revocation_ends_a_remembered_answer(asked: Asked, authorizer: FakeAuthorizer) -> None:
    authorizer.roles = {"workspace:w1": {asked.person.id: "editor"}}
    before = (await asked.ask("workspace:w1"), await asked.ask("workspace:w1"))
    remembered = len(authorizer.asked)
    authorizer.roles = {}
    async with asked.revoking() as revocations:
        await revocations.revoke(asked.person.id, W1)
    after = await asked.ask("workspace:w1")

    assert all(rooms["workspace:w1"].allowed for rooms in before)
    assert remembered == 1
    assert not after["workspace:w1"].allowed


async def test_answer_of_a_replica_that_has_not_heard_of_a_revocation_does_not_count(
    asked: Asked, authorizer: FakeAuthorizer
) -> None:
    authorizer.roles, authorizer.version = {"workspace:w1": {asked.person.id: "editor"}}, 6
    async with asked.revoking() as revocations:
        await revocations.revoke(asked.person.id, W1, authorizer_version=7)
    behind = await asked.ask("workspace:w1")
    authorizer.version = 7
    level = await asked.ask("workspace:w1")

    assert behind["workspace:w1"] == RoomDecision(allowed=False, unavailable=True)
    assert level["workspace:w1"].allowed


# Without auth around it.


@asynccontextmanager
async def asking(authorizer: FakeAuthorizer, now: Callable[[], float] = lambda: 0.0) -> AsyncIterator[Authorizers]:
    async with aiohttp.ClientSession() as http:
        authorizers = Authorizers([authorizer.setting], monotonic=now)
        authorizers.start(http)
        yield authorizers
        await authorizers.stop()


async def test_equal_questions_under_way_are_asked_once(authorizer: FakeAuthorizer) -> None:
    authorizer.roles = {"workspace:w1": {"shop-alice": "viewer"}}
    async with asking(authorizer) as authorizers:
        found = await asyncio.gather(*(authorizers.ask(ALICE, [W1], {}, version=3) for _ in range(MAX_HELD)))

    assert {one.role for answers in found for one in answers.values() if one is not None} == {Role.VIEWER}
    assert len(authorizer.asked) == 1
    assert authorizer.asked[0] == {"userId": "shop-alice", "issuer": "shop", "sub": "alice", "roots": ["workspace:w1"]}


async def test_question_begun_before_a_revocation_is_not_shared_with_those_who_come_after_it(
    authorizer: FakeAuthorizer,
) -> None:
    gate, began = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request, question: Any) -> web.StreamResponse:
        began.set()
        answer = await authorizer.decide(request, question)
        await gate.wait()
        return answer

    authorizer.roles, authorizer.answer = {"workspace:w1": {"shop-alice": "viewer"}}, wait
    async with asking(authorizer) as authorizers:
        before = asyncio.create_task(authorizers.ask(ALICE, [W1], {}, version=3))
        await began.wait()
        authorizer.roles, authorizer.answer = {}, authorizer.decide
        after = await authorizers.ask(ALICE, [W1], {W1: Revocation(0, 0, 4)}, version=4)
        gate.set()
        await before

    decided = after[W1]

    assert decided is not None
    assert decided.role is None


async def test_question_about_many_roots_is_split(authorizer: FakeAuthorizer) -> None:
    roots = [Pair("workspace", f"w{number}") for number in range(2 * MAX_ROOTS + 1)]
    async with asking(authorizer) as authorizers:
        found = await authorizers.ask(ALICE, roots, {}, version=0)

    assert len(found) == len(roots)
    assert sorted(len(question["roots"]) for question in authorizer.asked) == [1, MAX_ROOTS, MAX_ROOTS]


async def test_failing_authorizer_is_left_alone_for_longer_and_longer_and_tried_with_one_question(
    authorizer: FakeAuthorizer,
) -> None:
    now = 0.0

    async def ask(authorizers: Authorizers, count: int) -> int:
        """How many questions of so many arrive."""
        before = len(authorizer.asked)
        some = [Pair("workspace", f"w{number}") for number in range(count)]
        await asyncio.gather(*(authorizers.ask(ALICE, [root], {}, version=0) for root in some))
        return len(authorizer.asked) - before

    authorizer.answer = responds(status=503)
    async with asking(authorizer, lambda: now) as authorizers:
        first = await ask(authorizers, FAILURES)
        paused = await ask(authorizers, 3)
        now += 1.1
        one_probe = await ask(authorizers, 3)
        now += 1.1
        paused_longer = await ask(authorizers, 3)
        now += 1.0
        authorizer.answer = authorizer.decide
        probe = await ask(authorizers, 1)
        again = await ask(authorizers, 4)

    assert [first, paused, one_probe, paused_longer, probe, again] == [FAILURES, 0, 1, 0, 1, 4]


@pytest.mark.parametrize("broken", [responds(status=500), responds(status=404), says(version=1)])
async def test_user_whose_questions_the_authorizer_cannot_answer_keeps_nobody_else_out(
    authorizer: FakeAuthorizer, broken: Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
) -> None:
    """The application has numbers for ids, say, and fails for others."""

    async def answer(request: web.Request, question: Any) -> web.StreamResponse:
        return await (authorizer.decide if question["roots"] == ["workspace:w1"] else broken)(request, question)

    authorizer.roles, authorizer.answer = {"workspace:w1": {"shop-alice": "viewer"}}, answer
    async with asking(authorizer) as authorizers:
        for number in range(2 * FAILURES):
            await authorizers.ask(Subject("shop-mallory"), [Pair("workspace", f"x{number}")], {}, version=0)
        found = (await authorizers.ask(ALICE, [W1], {}, version=0))[W1]

    assert found is not None
    assert found.role is Role.VIEWER


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rootKind": "user"}, "not a kind of root"),
        ({"rootKind": "auth"}, "not a kind of root"),
        ({"rootKind": "depot.d1"}, "not a kind of root"),
        ({"url": "ftp://a"}, "not an address"),
        ({"secretFiles": []}, "at least 1"),
        ({"secretFiles": ["/absent"]}, "cannot be read"),
        ({"timeout": 9}, "not permitted"),
    ],
)
async def test_unusable_authorizer_stops_the_start(
    nats_server: NatsServer, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    good = {"rootKind": "depot", "url": "https://a.example/b", "secretFiles": [str(write_secret(tmp_path))]}
    with pytest.raises(ValueError, match=why):
        auth_settings(nats_server, tmp_path, authorizers=[{**good, **change}])
    with pytest.raises(ValueError, match="two authorizers"):
        auth_settings(nats_server, tmp_path, authorizers=[good, good])


@pytest.mark.parametrize(
    ("url", "is_weak"),
    [
        ("http://a.example/b", True),
        ("https://a.example/b", False),
        ("http://127.0.0.1:1/b", False),
        ("http://[::1]/", False),
    ],
)
async def test_authorizer_over_plain_http_to_another_machine_is_only_for_development(
    tmp_path: Path, url: str, is_weak: bool
) -> None:
    setting = {"rootKind": "depot", "url": url, "secretFiles": [str(write_secret(tmp_path))]}
    settings = Settings(authorizers=[setting])  # type: ignore[arg-type]

    assert ("authorizers" in [name for name, _ in settings.weak_secrets()]) is is_weak


@pytest.mark.parametrize(
    ("secret", "why"), [(b"a" * 40, "repeats"), (b"beaconfire and the application, both", "contains 'beaconfire'")]
)
async def test_weak_secret_of_an_authorizer_is_only_for_development(tmp_path: Path, secret: bytes, why: str) -> None:
    path = tmp_path / "weak"
    path.write_bytes(base64.b64encode(secret))
    setting = {"rootKind": "depot", "url": "https://a.example/b", "secretFiles": [str(path)]}
    settings = Settings(authorizers=[setting])  # type: ignore[arg-type]

    assert why in dict(settings.weak_secrets())["authorizers"]

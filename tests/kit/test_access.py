"""A handler may run while auth is asked about its caller, and nothing of it counts before auth has answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import Column, MetaData, String, Table, insert, select

from beaconfire.nats_server import NatsServer
from beaconfire_kit import errors
from beaconfire_kit.access import Access
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.serving import listening
from beaconfire_kit.settings import AsksAuth
from beaconfire_kit.web import application
from tests.conftest import broker_settings, connected
from tests.databases import database_url, on_both_databases
from tests.fakes import FakeAuth

pytestmark = on_both_databases

TABLES = MetaData()
THINGS = Table("things", TABLES, Column("id", String(64), primary_key=True), Column("by", String(16), nullable=False))
ANSWERS_IN_TIME_S = 60.0
"""As fast as any answer is, on a machine of any speed."""


class Things:
    """A service that adds things to campaign c1, with auth at hand. `ada` is an editor there."""

    def __init__(self, http: aiohttp.ClientSession, access: Access, database: Database, auth: FakeAuth) -> None:
        self.url = ""
        self.written = asyncio.Event()
        """Set when a handler has executed its statements."""
        self._http = http
        self._access = access
        self._database = database
        self._auth = auth

    async def handle(self, request: web.Request) -> web.Response:
        member = await self._access.editor(request)
        if member.path["id"] == "missing":
            self.written.set()
            raise BeaconfireError(errors.NOT_FOUND, "no such thing")
        async with self._database.writing() as tx:
            await tx.execute(insert(THINGS).values(id=member.path["id"], by=member.role.value))
            self.written.set()
        return web.Response()

    async def put(self, thing: str) -> int:
        """Add a thing as `ada`, and return the status of the answer."""
        self.written.clear()
        headers = {"Authorization": f"Bearer {self._auth.token('ada')}"}
        async with self._http.put(f"{self.url}/campaigns/c1/things/{thing}", headers=headers) as answer:
            return answer.status

    async def there(self) -> dict[str, str]:
        """Return the role of the user who added each thing."""
        async with self._database.reading() as connection:
            return {row.id: row.by for row in await connection.execute(select(THINGS))}


@asynccontextmanager
async def serving(stream: NatsServer, folder: Path, *, prompt_s: float) -> AsyncIterator[tuple[Things, FakeAuth]]:
    database = Database(database_url(folder, "things"))
    async with (
        FakeAuth().running(stream) as auth,
        aiohttp.ClientSession() as http,
        connected(stream, "publisher") as nc,
    ):
        auth.members["ada"] = {"campaign:c1": "editor"}
        common = broker_settings(stream, "publisher").model_dump()
        settings = AsksAuth(**{**common, "port": 0, "jwks_url": auth.jwks_url})
        access = Access(settings, root_kind="campaign", source="things", prompt_s=prompt_s)
        access.start(http)
        access.connected(nc)
        async with database.writing() as tx:
            await tx.run_sync(TABLES.create_all)
        things = Things(http, access, database, auth)
        app = application(settings, ready=lambda: None)
        app.router.add_put("/campaigns/{campaign_id}/things/{id}", access.while_asking(things.handle))
        async with listening(app, settings, name="things") as at:
            things.url = at.url
            yield things, auth
    await database.close()


@pytest.fixture(name="served")
async def _served(stream: NatsServer, tmp_path: Path) -> AsyncIterator[tuple[Things, FakeAuth]]:
    """The service, after a first change of `ada`. So it expects that she is an editor."""
    async with serving(stream, tmp_path, prompt_s=ANSWERS_IN_TIME_S) as (things, auth):
        assert await things.put("first") == 200
        yield things, auth


def answering(auth: FakeAuth, things: Things, *, role: str | None) -> None:
    """Let auth answer with this role, only after a handler has executed its statements."""
    auth.members["ada"] = {} if role is None else {"campaign:c1": role}
    auth.before_answer = things.written.wait  # type: ignore[assignment]


async def test_change_runs_while_auth_is_asked_and_is_committed_once_it_agrees(served: tuple[Things, FakeAuth]) -> None:
    things, auth = served
    before: list[dict[str, str]] = []

    async def look() -> None:
        await things.written.wait()
        before.append(await things.there())

    auth.before_answer = look
    status = await things.put("second")

    assert status == 200
    assert before == [{"first": "editor"}]
    assert await things.there() == {"first": "editor", "second": "editor"}
    assert [one["rooms"] for one in auth.asked] == [["campaign:c1"]] * 2


async def test_removed_member_changes_nothing_although_the_service_expected_a_yes(
    served: tuple[Things, FakeAuth],
) -> None:
    """T35: the second request after the removal does not even begin a transaction before auth has answered."""
    things, auth = served
    answering(auth, things, role=None)
    first = await things.put("second")
    auth.before_answer = None
    second = await things.put("third")

    assert (first, second) == (403, 403)
    assert not things.written.is_set()
    assert await things.there() == {"first": "editor"}


async def test_revoked_token_changes_nothing_although_the_service_expected_a_yes(
    served: tuple[Things, FakeAuth],
) -> None:
    """T35: the answer is that of a revoked token."""
    things, auth = served
    answering(auth, things, role="editor")
    auth.revoked.add("ada")

    assert await things.put("second") == 401
    assert await things.there() == {"first": "editor"}


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("viewer", 403)])
async def test_change_counts_with_the_role_that_auth_tells_and_not_with_the_expected_one(
    served: tuple[Things, FakeAuth], role: str, status: int
) -> None:
    """T35: the change is rolled back, and made once more if the new role may make it."""
    things, auth = served
    answering(auth, things, role=role)

    assert await things.put("second") == status
    assert await things.there() == {"first": "editor", **({"second": role} if status == 200 else {})}


async def test_error_of_the_handler_is_hidden_from_a_removed_member(served: tuple[Things, FakeAuth]) -> None:
    """T35: members learn that a thing is missing, and others only that they may not know."""
    things, auth = served
    answering(auth, things, role="editor")
    member = await things.put("missing")
    answering(auth, things, role=None)
    removed = await things.put("missing")

    assert (member, removed) == (404, 403)


async def test_without_an_answer_of_auth_nothing_is_committed(served: tuple[Things, FakeAuth]) -> None:
    """T35: silence of auth is a refusal."""
    things, auth = served
    auth.answer = lambda question: None

    assert await things.put("second") == 503
    assert things.written.is_set()
    assert await things.there() == {"first": "editor"}


async def test_no_transaction_is_open_while_a_slow_auth_is_asked(stream: NatsServer, tmp_path: Path) -> None:
    """If auth was slow, the next handler waits for its answer before it begins."""
    began: list[bool] = []
    async with serving(stream, tmp_path, prompt_s=0) as (things, auth):
        assert await things.put("first") == 200

        async def look() -> None:
            began.append(things.written.is_set())

        auth.before_answer = look
        status = await things.put("second")

    assert (status, began) == (200, [False])

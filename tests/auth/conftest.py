"""A real auth on real sockets, a real broker and a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_auth.app import Tuning, build
from beaconfire_auth.settings import Settings
from beaconfire_kit.authorization import AuthorizeRequest, GrantRequest
from beaconfire_kit.received import Received, read
from beaconfire_kit.roles import Role
from beaconfire_kit.serving import listening
from beaconfire_kit.settings import DEVELOPMENT_SERVICE_TOKEN
from beaconfire_kit.web import DEFAULT_TIMES, REQUEST_TIMES, RequestTimes
from tests.asking import authorize, grant
from tests.conftest import PATIENCE_S, broker_settings, connected
from tests.databases import database_url
from tests.people import Person

PASSWORD = "correct horse"
OPERATOR_TOKEN = "e1d2c3b4a5968778695a4b3c2d1e0f99"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.body["error"]["code"])


class Auth:
    """A running auth, as its callers see it."""

    def __init__(self, url: str, ops_url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.ops_url = ops_url
        self._http = http

    async def call(self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any) -> Answer:
        """Send one request. `body` may be bytes, to send invalid JSON."""
        headers = {**more.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._http.request(method, self.url + path, headers=headers, **data, **more) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return Answer(answer.status, await answer.json() if is_json else text, dict(answer.headers))

    async def stream(self, method: str, path: str, body: AsyncIterator[bytes], *, token: str) -> Answer:
        """Send one request whose body comes in pieces."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.request(method, self.url + path, headers=headers, data=body) as answer:
            return Answer(answer.status, await answer.json(), dict(answer.headers))

    async def sign_up(self, name: str) -> Person:
        """Sign a user up."""
        body = {"email": f"{name}@auth.example", "password": PASSWORD, "name": name}
        answer = await self.call("POST", "/auth/sign-up", body)
        assert answer.status == 201, answer
        return person(answer)

    async def operate(self, method: str, path: str, body: Any = None, *, token: str | None = OPERATOR_TOKEN) -> Answer:
        """One request to the operations port, as an operator."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.ops_url}/api/v1/auth/{path}"
        async with self._http.request(method, url, headers=headers, json=body) as answer:
            is_json = answer.content_type == "application/json"
            return Answer(answer.status, await answer.json() if is_json else await answer.text(), dict(answer.headers))

    async def until_ready(self) -> None:
        async with asyncio.timeout(20):
            while (await self.call("GET", "/readyz")).status != 200:
                pass

    async def why_not_ready(self) -> str:
        """Wait until it is not ready; what it says then."""
        async with asyncio.timeout(20):
            while (answer := await self.call("GET", "/readyz")).status == 200:
                pass
            return str(answer.body["status"])

    async def sign_in(self, name: str, password: str = PASSWORD) -> Answer:
        return await self.call("POST", "/auth/sign-in", {"email": f"{name}@auth.example", "password": password})


def person(answer: Answer) -> Person:
    """The user in an answer with a session."""
    user = answer.body["user"]
    return Person(user["id"], user["email"], answer.body["accessToken"], answer.body["refreshToken"])


def auth_settings(server: NatsServer, folder: Path, **settings: Any) -> Settings:
    """Settings of an auth on free ports with its state in a folder. Hashing is made cheap, not skipped."""
    return Settings(
        **{
            **broker_settings(server, "auth").model_dump(),
            "port": 0,
            "database_url": database_url(folder, "auth"),
            # All people of a test have one address; tests/auth/test_attempts.py has the limits that are shipped.
            "attempts_per_minute_address": 10_000,
            "attempts_per_minute_account": 10_000,
            "operator_token": OPERATOR_TOKEN,
            "argon2_time_cost": 1,
            "argon2_memory_kib": 32,
            **settings,
        }
    )


@asynccontextmanager
async def starting_auth(
    settings: Settings, *, tuning: Tuning | None = None, times: RequestTimes = DEFAULT_TIMES
) -> AsyncIterator[Auth]:
    """Start auth in this process; yields when it listens, ready or not."""
    app = build(settings, on_fatal=lambda: pytest.fail("auth lost its broker for good"), tuning=tuning)
    app[REQUEST_TIMES] = times
    async with listening(app, settings, name="auth") as at, aiohttp.ClientSession() as http:
        yield Auth(at.url, at.ops_url, http)


@asynccontextmanager
async def running_auth(
    server: NatsServer,
    folder: Path,
    *,
    tuning: Tuning | None = None,
    times: RequestTimes = DEFAULT_TIMES,
    **settings: Any,
) -> AsyncIterator[Auth]:
    """Start auth in this process; yields when it is ready."""
    async with starting_auth(auth_settings(server, folder, **settings), tuning=tuning, times=times) as auth:
        await auth.until_ready()
        yield auth


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Auth]:
    async with running_auth(stream, tmp_path) as auth:
        yield auth


class Table:
    """A campaign with an owner, an editor and a viewer, and a stranger without a membership."""

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

    async def role_of(self, name: str, *, timeout_s: float = PATIENCE_S) -> Role | None:
        person = self.people[name]
        reply = await authorize(
            self.nc, AuthorizeRequest(user_id=person.id, rooms=("campaign:c1",)), timeout_s=timeout_s
        )
        return reply.rooms["campaign:c1"].role


def granting(root: str, user_id: str, role: Role, *, founding: bool = False) -> GrantRequest:
    """Return a domain service's request to make a user a member, with the service token of a development set."""
    return GrantRequest(
        root=root, user_id=user_id, role=role, founding=founding, service_token=DEVELOPMENT_SERVICE_TOKEN
    )


@asynccontextmanager
async def table(auth: Auth, server: NatsServer) -> AsyncIterator[Table]:
    heard: asyncio.Queue[Received] = asyncio.Queue()

    async def hear(message: Any) -> None:
        heard.put_nowait(read(message.subject.removeprefix("live."), message.data))

    async with connected(server, "publisher") as nc, connected(server, "gateway") as gateway:
        await gateway.subscribe("live.*.*.member.*", cb=hear)
        await gateway.subscribe("live.user.*.access", cb=hear)
        await gateway.flush()
        made = Table(auth, nc, heard)
        for name in ("owner", "editor", "viewer", "stranger"):
            made.people[name] = await auth.sign_up(name)
        owner = granting(root="campaign:c1", user_id=made.people["owner"].id, role=Role.OWNER)
        await grant(nc, owner, timeout_s=20)
        await made.next_event()
        for name in ("editor", "viewer"):
            assert (await made.add(name, name)).status == 201
            await made.next_event()
        yield made


@pytest.fixture(name="table")
async def _table(auth: Auth, stream: NatsServer) -> AsyncIterator[Table]:
    async with table(auth, stream) as made:
        yield made

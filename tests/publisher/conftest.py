"""The publisher with real parts around it, and an auth of the tests' own that can also misbehave.

`StubAuth` is a peer on the wire: a JWKS over HTTP, and a responder on the broker with auth's own user.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from services.publisher.app import build
from services.publisher.settings import Settings
from shared import tokens
from shared.authorization import (
    AUTHORIZE,
    GRANT,
    QUEUE,
    AuthorizeReply,
    AuthorizeRequest,
    GrantReply,
    GrantRequest,
    RoomDecision,
    WireError,
)
from shared.envelope import Received, read
from shared.roles import Role
from shared.web import listening
from tests.conftest import connected
from tools.nats_server import NatsServer

PATIENCE_S = 20.0


class StubAuth:
    """Answers as auth does, from `roles`. `silent`: hears and says nothing; `error`: refuses with this code."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._jwks = TestServer(self._application())
        self.roles: dict[tuple[str, str], Role] = {}
        self.revoked: set[str] = set()
        self.silent = False
        self.error: str | None = None
        self.asked: list[AuthorizeRequest] = []
        self.on_grant: Callable[[GrantRequest], None] = lambda request: None

    @property
    def jwks_url(self) -> str:
        return str(self._jwks.make_url("/.well-known/jwks.json"))

    def token(self, user_id: str, **more: Any) -> str:
        claims = {"name": user_id, "issuer": "beaconfire", "audience": "beaconfire", "ttl_s": 900, **more}
        return tokens.sign(self._key, "k1", user_id=user_id, **claims)

    @asynccontextmanager
    async def running(self, server: NatsServer) -> AsyncIterator["StubAuth"]:
        async with self._jwks, self.answering(server):
            yield self

    @asynccontextmanager
    async def answering(self, server: NatsServer) -> AsyncIterator[Client]:
        """On the broker for the length of the block."""
        async with connected(server, "auth") as nc:
            await nc.subscribe(AUTHORIZE, queue=QUEUE, cb=self._authorize)
            await nc.subscribe(GRANT, queue=QUEUE, cb=self._grant)
            await nc.flush()
            yield nc

    async def _authorize(self, message: Msg) -> None:
        request = AuthorizeRequest.model_validate_json(message.data)
        self.asked.append(request)
        rooms = {}
        for room in request.rooms:
            role = self.roles.get((request.user_id, room))
            rooms[room] = RoomDecision(allowed=role is not None, root=room if role else None, role=role)
        mine = {root: role for (user, root), role in self.roles.items() if user == request.user_id}
        await self._answer(message, AuthorizeReply(revoked=request.user_id in self.revoked, rooms=rooms, roots=mine))

    async def _grant(self, message: Msg) -> None:
        request = GrantRequest.model_validate_json(message.data)
        self.on_grant(request)
        if not self.silent and self.error is None:
            self.roles[request.user_id, request.root] = request.role
        await self._answer(message, GrantReply())

    async def _answer(self, message: Msg, reply: AuthorizeReply | GrantReply) -> None:
        if self.silent:
            return
        if self.error:
            reply = type(reply)(error=WireError(code=self.error, message="as the test wants it"))
        await message.respond(reply.model_dump_json(exclude_none=True).encode())

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/jwks.json", self._keys)
        return app

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [tokens.public_jwk("k1", self._key.public_key())]})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the publisher."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.body["error"]["code"]


@dataclass(frozen=True, slots=True)
class Api:
    """Calls the publisher as one user."""

    http: aiohttp.ClientSession
    url: str
    token: str | None

    async def get(self, path: str) -> Reply:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return await self.call("POST", path, body, **headers)

    async def patch(self, path: str, body: Any) -> Reply:
        return await self.call("PATCH", path, body)

    async def delete(self, path: str) -> Reply:
        return await self.call("DELETE", path)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """`body` is sent as JSON, bytes as they are. `X_Correlation_Id=…` is that header."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.http.request(method, self.url + path, headers=sent, **content) as answer:
            is_json = answer.content_type == "application/json"
            return Reply(answer.status, await answer.json() if is_json else None, dict(answer.headers))


class Heard:
    """What the publisher's events are to a gateway: those on `live.>`, checked, in the order of the stream."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Received] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        subject = message.subject.removeprefix("live.")
        if subject not in ("tick", "anchor"):
            self.queue.put_nowait(read(subject, message.data))

    async def next(self) -> Received:
        async with asyncio.timeout(PATIENCE_S):
            return await self.queue.get()

    async def told(self) -> dict[str, Any]:
        """The next event's payload, with its type."""
        event = await self.next()
        return {"type": event.type, **event.payload.model_dump(mode="json", exclude_none=True)}


@dataclass(slots=True)
class Publisher:
    """A running publisher, and who talks to it."""

    url: str
    app: web.Application
    auth: StubAuth
    heard: Heard
    http: aiohttp.ClientSession
    campaign_id: str = ""
    users: dict[str, Api] = field(default_factory=dict)

    def user(self, user_id: str) -> Api:
        return Api(self.http, self.url, self.auth.token(user_id))

    @property
    def owner(self) -> Api:
        return self.users["owner"]

    @property
    def editor(self) -> Api:
        return self.users["editor"]

    @property
    def viewer(self) -> Api:
        return self.users["viewer"]

    @property
    def stranger(self) -> Api:
        return self.users["stranger"]

    @property
    def campaign(self) -> str:
        return f"/v1/campaigns/{self.campaign_id}"

    async def ready(self) -> None:
        """Wait until /readyz says yes."""
        await self.says("ready")

    async def says(self, status: str) -> None:
        """Wait until /readyz says this."""
        anybody = Api(self.http, self.url, None)
        async with asyncio.timeout(PATIENCE_S):
            while (await anybody.get("/readyz")).body["status"] != status:
                await asyncio.sleep(0.02)


def publisher_settings(server: NatsServer, auth: StubAuth, folder: Path, **more: Any) -> Settings:
    """Settings of a publisher between these parts. Again with the same folder: the same database."""
    return Settings(
        port=0,
        nats_url=server.url,
        nats_user="publisher",
        nats_password=SecretStr(server.passwords["publisher"]),
        database_url=f"sqlite+aiosqlite:///{folder}/publisher.db",
        jwks_url=auth.jwks_url,
        **more,
    )


@asynccontextmanager
async def publishing(settings: Settings, auth: StubAuth, heard: Heard) -> AsyncIterator[Publisher]:
    """A publisher in this process, on a real port. Does not wait until it is ready."""

    def closed() -> None:
        pytest.fail("the publisher's broker connection was closed for good")

    app = build(settings, on_fatal=closed)
    async with aiohttp.ClientSession() as http, listening(app, settings, name="publisher") as at:
        yield Publisher(at.url, app, auth, heard, http)


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer) -> AsyncIterator[StubAuth]:
    async with StubAuth().running(stream) as auth:
        yield auth


@pytest.fixture(name="heard")
async def _heard(stream: NatsServer) -> AsyncIterator[Heard]:
    async with connected(stream, "gateway") as nc:
        heard = Heard()
        await nc.subscribe("live.>", cb=heard.take)
        await nc.flush()
        yield heard


@pytest.fixture(name="publisher")
async def _publisher(stream: NatsServer, auth: StubAuth, heard: Heard, tmp_path: Path) -> AsyncIterator[Publisher]:
    """A ready publisher with a campaign (its event already heard), and a user of each role."""
    async with publishing(publisher_settings(stream, auth, tmp_path), auth, heard) as publisher:
        await publisher.ready()
        publisher.users = {name: publisher.user(name) for name in ("owner", "editor", "viewer", "stranger")}
        created = await publisher.owner.post("/v1/campaigns", {"name": "The Vale"})
        publisher.campaign_id = created.body["campaign"]["id"]
        auth.roles["editor", f"campaign:{publisher.campaign_id}"] = Role.EDITOR
        auth.roles["viewer", f"campaign:{publisher.campaign_id}"] = Role.VIEWER
        await heard.next()
        yield publisher

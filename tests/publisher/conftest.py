"""The publisher between real parts: broker, auth, database, sockets. `Heard` has its events as a gateway gets them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.msg import Msg

from beaconfire.nats_server import NatsServer
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.received import UNKNOWN, Received, read
from beaconfire_kit.serving import listening
from beaconfire_kit.web import DEFAULT_TIMES, REQUEST_TIMES, RequestTimes
from beaconfire_publisher.app import Tuning, build
from beaconfire_publisher.settings import Settings
from tests.auth.conftest import Auth, running_auth
from tests.conftest import Broker, broker_settings, connected
from tests.databases import database_url
from tests.fakes import FakeAuth

PATIENCE_S = 40.0
USERS = ("owner", "editor", "viewer", "stranger")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the publisher."""

    status: int
    body: Any
    headers: Mapping[str, str]
    """Names in any case."""

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.body["error"]["code"]

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])


@dataclass(frozen=True, slots=True)
class Api:
    """Calls the publisher as one user, or without a token if `token` is None."""

    http: aiohttp.ClientSession
    url: str
    token: str | None = None
    user_id: str = ""

    async def get(self, path: str) -> Reply:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return await self.call("POST", path, body, **headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Reply:
        return await self.call("PATCH", path, body, **headers)

    async def delete(self, path: str, **headers: str) -> Reply:
        return await self.call("DELETE", path, **headers)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """`body` is sent as JSON, bytes as they are. `X_Correlation_Id=…` is that header."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.http.request(method, self.url + path, headers=sent, **content) as answer:
            is_json = answer.content_type == "application/json"
            return Reply(answer.status, await answer.json() if is_json else None, answer.headers)


class Heard:
    """The publisher's events on `live.>`, each checked as a gateway does it, in the order of the stream."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Received] = asyncio.Queue()
        self.offsets: dict[str, int] = {}
        """The offset of each event in the stream, by its id."""

    async def take(self, message: Msg) -> None:
        subject = message.subject.removeprefix("live.")
        if subject in ("tick", "anchor", "catalogue"):
            return
        try:
            event = read(subject, message.data)
        except InvalidEvent as error:
            if error.reason in UNKNOWN:
                return  # a test's own type
            raise
        self.offsets[event.id] = int((message.headers or {})["Nats-Sequence"])
        if event.metadata.source != "auth":  # auth's are not what these tests are about
            self._events.put_nowait(event)

    async def event(self) -> Received:
        """The next one."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._events.get()

    async def told(self) -> dict[str, Any]:
        """The next one's payload, with its type."""
        event = await self.event()
        return {"type": event.type, **event.payload.model_dump(mode="json")}


@dataclass(frozen=True, slots=True)
class Publisher:
    """A running publisher, its users, and a campaign with an owner, an editor and a viewer."""

    http: aiohttp.ClientSession
    url: str
    heard: Heard
    users: dict[str, Api] = field(default_factory=dict)
    campaign_id: str = ""

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
    def nobody(self) -> Api:
        return Api(self.http, self.url)

    @property
    def campaign(self) -> str:
        """The campaign's path."""
        return f"/v1/campaigns/{self.campaign_id}"

    async def create(self, path: str, **body: Any) -> dict[str, Any]:
        """A new thing below the campaign, its event already heard."""
        answer = await self.owner.post(f"{self.campaign}/{path}", body)
        assert answer.status == 201, answer
        await self.heard.event()
        (thing,) = answer.body.values()
        return dict(thing)

    async def insist(self, method: str, path: str, body: Any) -> Reply:
        """Call as the editor, and again while the answer is "try again", which means that nothing was changed."""
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await self.editor.call(method, path, body)).status == 503:
                pass
            return answer

    async def says(self, status: str) -> None:
        """Wait until /readyz says this."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.nobody.get("/readyz")).body["status"] != status:
                await asyncio.sleep(0.01)


def publisher_settings(server: Broker, folder: Path, jwks_url: str, **more: Any) -> Settings:
    """Settings of a publisher between these parts. The same folder is the same database."""
    common = broker_settings(server, "publisher").model_dump()
    own = {"port": 0, "database_url": database_url(folder, "publisher"), "jwks_url": jwks_url}
    return Settings(**{**common, **own, **more})


@asynccontextmanager
async def publishing(
    settings: Settings, heard: Heard, *, tuning: Tuning | None = None, times: RequestTimes = DEFAULT_TIMES
) -> AsyncIterator[Publisher]:
    """A publisher in this process, on a real port. Does not wait until it is ready."""
    app = build(settings, on_fatal=lambda: pytest.fail("the publisher lost its broker for good"), tuning=tuning)
    app[REQUEST_TIMES] = times
    async with aiohttp.ClientSession() as http, listening(app, settings, name="publisher") as at:
        yield Publisher(http, at.url, heard)


@pytest.fixture(name="heard")
async def _heard(stream: NatsServer) -> AsyncIterator[Heard]:
    async with connected(stream, "gateway") as nc:
        heard = Heard()
        await nc.subscribe("live.>", cb=heard.take)
        await nc.flush()
        yield heard


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Auth]:
    async with running_auth(stream, tmp_path) as auth:
        yield auth


@pytest.fixture(name="tuning")
def _tuning() -> Tuning:
    """The publisher's times, as it is shipped. A module may choose others."""
    return Tuning()


@pytest.fixture(name="publisher")
async def _publisher(
    stream: NatsServer, auth: Auth, heard: Heard, tmp_path: Path, tuning: Tuning
) -> AsyncIterator[Publisher]:
    settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json")
    async with publishing(settings, heard, tuning=tuning) as bare:
        people = {name: await auth.sign_up(name) for name in USERS}
        users = {name: Api(bare.http, bare.url, person.token, person.id) for name, person in people.items()}
        await bare.says("ready")
        while (created := await users["owner"].post("/v1/campaigns", {"name": "The Vale"})).status == 503:
            await asyncio.sleep(0.1)  # auth did not answer in time: the machine is busy
        campaign_id = created.body["campaign"]["id"]
        members = f"/auth/roots/campaign:{campaign_id}/members"
        for role in ("editor", "viewer"):
            body = {"email": people[role].email, "role": role}
            assert (await auth.call("POST", members, body, token=people["owner"].token)).status == 201
        await heard.event()
        yield Publisher(bare.http, bare.url, heard, users, campaign_id)


@pytest.fixture(name="fake_auth")
async def _fake_auth(stream: NatsServer) -> AsyncIterator[FakeAuth]:
    """An auth that misbehaves as the test wants. It grants nothing."""
    async with FakeAuth().running(stream) as fake:
        fake.members["editor"] = {"campaign:c1": "editor"}
        yield fake


@pytest.fixture(name="misled")
async def _misled(stream: NatsServer, fake_auth: FakeAuth, heard: Heard, tmp_path: Path) -> AsyncIterator[Publisher]:
    """A ready publisher with the misbehaving auth, and one user, an editor of campaign c1."""
    async with publishing(publisher_settings(stream, tmp_path, fake_auth.jwks_url), heard) as bare:
        await bare.says("ready")
        editor = Api(bare.http, bare.url, fake_auth.token("editor"), "editor")
        yield Publisher(bare.http, bare.url, heard, {"editor": editor}, "c1")

"""Run the whole line in one process, with real parts: broker, auth, publisher and gateways, and their users."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from beaconfire.nats_server import NatsServer
from beaconfire_auth.keys import Keys
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.seal import Seal
from beaconfire_auth.settings import DEVELOPMENT_SECRET
from beaconfire_gateway.process.app import Tuning
from beaconfire_kit.database import Database
from beaconfire_kit.migrations import open_database
from beaconfire_kit.web import DEFAULT_TIMES, RequestTimes
from tests.auth.conftest import Auth, running_auth
from tests.client import Closed, SocketClient, open_socket
from tests.fakes import FakeAuth
from tests.forgery import Forger
from tests.gateway.conftest import Gateway, running_gateway
from tests.people import Person
from tests.publisher.conftest import Api, Heard, publisher_settings, publishing


@dataclass
class Whole:
    """Everything that runs, and how to speak to it."""

    auth: Auth
    publisher: Api
    gateways: list[Gateway]
    folder: Path

    def api(self, token: str) -> Api:
        """The publisher, with this token."""
        return Api(self.publisher.http, self.publisher.url, token)

    async def sign_up(self, name: str) -> Person:
        return await self.auth.sign_up(name)

    async def campaign(self, owner: Person) -> str:
        """Create a campaign for a user. Returns its id."""
        answer = await self.api(owner.token).post("/v1/campaigns", {"name": "A campaign"})
        assert answer.status == 201, answer
        return str(answer.body["campaign"]["id"])

    async def thing(self, owner: Person, path: str, body: Mapping[str, Any]) -> str:
        """A new thing; its id."""
        answer = await self.api(owner.token).post(path, body)
        assert answer.status == 201, answer
        (made,) = answer.body.values()
        return str(made["id"])

    async def forger(self) -> Forger:
        """One that has auth's own key."""
        database = Database(f"sqlite+aiosqlite:///{self.folder}/auth.db")
        try:
            await open_database(database, MIGRATIONS, migrate=True)
            keys = Keys(database, Seal([DEVELOPMENT_SECRET]))
            await keys.open()
            key_id, key = keys.signer
            return Forger(key, key_id)
        finally:
            await database.close()


@asynccontextmanager
async def running_whole(
    server: NatsServer,
    folder: Path,
    *,
    gateways: int = 1,
    jwks_url: str | None = None,
    auth: Mapping[str, Any] | None = None,
    everywhere: Mapping[str, Any] | None = None,
    tuning: Tuning | None = None,
    times: RequestTimes = DEFAULT_TIMES,
) -> AsyncIterator[Whole]:
    """Start it all; yields when everything is ready. `jwks_url`, where keys are not to be asked from auth itself."""
    common = everywhere or {}
    async with AsyncExitStack() as stack:
        chosen = {**common, **(auth or {})}
        running = await stack.enter_async_context(running_auth(server, folder, times=times, **chosen))
        keys_at = jwks_url or f"{running.url}/.well-known/jwks.json"
        settings = publisher_settings(server, folder, keys_at, **common)
        bare = await stack.enter_async_context(publishing(settings, Heard(), times=times))
        await bare.says("ready")
        stand_in = FakeAuth()  # only its keys' address is asked for
        stand_in.jwks_url = keys_at
        roomy = {"attempts_per_minute_address": 100_000, **common}  # many attacks: the limit has tests of its own
        made = [
            await stack.enter_async_context(running_gateway(server, stand_in, tuning, times, **roomy))
            for _ in range(gateways)
        ]
        yield Whole(running, bare.nobody, made, folder)


async def connect(gateway: Gateway, token: Any, *rooms: str, **options: Any) -> Closed | dict[str, Any]:
    """Try to connect: the ack, or how it was closed. Without a token in the message where it is None."""
    async with open_socket(gateway.url, **options) as client:
        return await connected(client, token, *rooms)


async def connected(client: SocketClient, token: Any, *rooms: str) -> Closed | dict[str, Any]:
    """The same on a socket that is open."""
    try:
        fields = {} if token is None else {"token": token}
        return await client.ask("connect", rooms=list(rooms), **fields)
    except Closed as end:
        return end


async def with_token(http: aiohttp.ClientSession, url: str, token: str) -> tuple[int, Any]:
    """A request with a bearer token: status and body."""
    async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status, await answer.json()

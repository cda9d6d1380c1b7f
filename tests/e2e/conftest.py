"""Run the whole set as processes, with users on its public interfaces."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client

from beaconfire.local_services import Plan, Services
from beaconfire_kit.authorization import AuthUnavailable, GrantRequest, grant
from beaconfire_kit.roles import Role
from tests.conftest import connected
from tests.forked import all_running
from tests.people import Person

PASSWORD = "correct horse"


class Line:
    """The running set, and HTTP calls to it."""

    def __init__(self, services: Services, http: aiohttp.ClientSession) -> None:
        self.services = services
        self._http = http

    async def call(self, method: str, url: str, body: Any = None, *, token: str | None = None, **headers: str) -> Any:
        """One request; returns the body. Raises for anything but 2xx, with what the service said.

        `body` is sent as JSON, bytes as they are.
        """
        status, text = await self._ask(method, url, body, token, headers)
        assert status < 300, f"{method} {url}: {status} {text}"
        return json.loads(text) if text else None

    async def _ask(
        self, method: str, url: str, body: Any, token: str | None, headers: Mapping[str, str]
    ) -> tuple[int, str]:
        chosen = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            chosen["Authorization"] = f"Bearer {token}"
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._http.request(method, url, headers=chosen, **sent) as answer:
            return answer.status, await answer.text()

    async def patiently(self, method: str, path: str, body: Any = None, *, token: str) -> Any:
        """Ask the publisher as clients do: again while it answers 503, with the same key."""
        url, headers = self.services.publisher_url + path, {"Idempotency-Key": uuid.uuid4().hex}
        while (answered := await self._ask(method, url, body, token, headers))[0] == 503:
            pass
        status, text = answered
        assert status < 300, f"{method} {url}: {status} {text}"
        return json.loads(text)

    async def publisher(self, method: str, path: str, body: Any = None, *, token: str, **headers: str) -> Any:
        return await self.call(method, self.services.publisher_url + path, body, token=token, **headers)

    async def auth(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        return await self.call(method, self.services.auth_url + path, body, token=token)

    async def sign_up(self, name: str) -> Person:
        """Sign a new user up."""
        email = f"{name}-{uuid.uuid4().hex}@e2e.example"
        body = await self.auth("POST", "/auth/sign-up", {"email": email, "password": PASSWORD, "name": name})
        return Person(body["user"]["id"], email, body["accessToken"], body["refreshToken"])

    async def service_token(self, service: str, *patterns: str) -> str:
        """A new token of a service that may publish on these subjects."""
        url, operator = f"{self.services.auth.ops_url}/api/v1/auth/service-tokens", self.services.operator_token
        body = await self.call("POST", url, {"service": service, "publish": patterns}, token=operator)
        return str(body["token"])

    async def campaign(self, owner: Person) -> str:
        """A new campaign; its id."""
        body = await self.publisher("POST", "/v1/campaigns", {"name": "A campaign"}, token=owner.token)
        return str(body["campaign"]["id"])

    async def settlement(self, owner: Person, campaign: str) -> str:
        """A new settlement; its id."""
        path = f"/v1/campaigns/{campaign}/settlements"
        return str((await self.publisher("POST", path, {"name": "A place"}, token=owner.token))["settlement"]["id"])

    async def add_member(self, owner: Person, campaign: str, person: Person, role: str) -> None:
        path = f"/auth/roots/campaign:{campaign}/members"
        await self.auth("POST", path, {"email": person.email, "role": role}, token=owner.token)

    async def grant(self, nc: Client, root: str, person: Person, role: Role) -> None:
        """Make a user a member of any root, as a domain service would."""
        token = self.services.service_token
        asked = GrantRequest(root=root, user_id=person.id, role=role, service_token=token)
        while True:
            try:
                await grant(nc, asked)
                return
            except AuthUnavailable:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running_line(plan: Plan) -> AsyncIterator[Line]:
    """A set that is started here, in a thread, and ends with the block."""
    running = all_running(plan)
    services = await asyncio.to_thread(running.__enter__)
    try:
        async with aiohttp.ClientSession() as http:
            yield Line(services, http)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.fixture(name="running", scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One set for a module's tests that leave it whole."""
    folder: Path = tmp_path_factory.mktemp("line")
    with all_running(Plan(folder, gateways=2)) as services:
        yield services


@pytest.fixture(name="line")
async def _line(running: Services) -> AsyncIterator[Line]:
    async with aiohttp.ClientSession() as http:
        yield Line(running, http)


@pytest.fixture(name="own_line")
async def _own_line(services: Services) -> AsyncIterator[Line]:
    """A set of its own, for a test that kills parts of it."""
    async with aiohttp.ClientSession() as http:
        yield Line(services, http)


@pytest.fixture(name="nc")
async def _nc(running: Services) -> AsyncIterator[Client]:
    """The broker, as a domain service sees it."""
    async with connected(running.nats, "publisher") as nc:
        yield nc

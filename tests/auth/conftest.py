"""A real auth on real sockets, a real broker and a real database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.auth.app import build
from services.auth.settings import Settings
from shared.web import listening
from tests.conftest import broker_settings
from tools.nats_server import NatsServer

PASSWORD = "correct horse"


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


@dataclass(frozen=True)
class Person:
    """Somebody who signed up."""

    id: str
    email: str
    token: str
    refresh_token: str


class Auth:
    """A running auth, as its callers see it."""

    def __init__(self, url: str, ops_url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.ops_url = ops_url
        self._http = http

    async def call(self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any) -> Answer:
        """One request. `body` may be bytes, to send what is no JSON."""
        headers = {**more.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._http.request(method, self.url + path, headers=headers, **data, **more) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return Answer(answer.status, await answer.json() if is_json else text, dict(answer.headers))

    async def sign_up(self, name: str) -> Person:
        """Sign somebody up."""
        body = {"email": f"{name}@auth.example", "password": PASSWORD, "name": name}
        answer = await self.call("POST", "/auth/sign-up", body)
        assert answer.status == 201, answer
        return person(answer)

    async def sign_in(self, name: str, password: str = PASSWORD) -> Answer:
        return await self.call("POST", "/auth/sign-in", {"email": f"{name}@auth.example", "password": password})


def person(answer: Answer) -> Person:
    """Who an answer with a session is about."""
    user = answer.body["user"]
    return Person(user["id"], user["email"], answer.body["accessToken"], answer.body["refreshToken"])


@asynccontextmanager
async def running_auth(server: NatsServer, folder: Path, **settings: Any) -> AsyncIterator[Auth]:
    """Start auth in this process, on free ports; yields when it is ready. Hashing is made cheap, not skipped."""
    chosen = Settings(
        **{
            **broker_settings(server, "auth").model_dump(),
            "port": 0,
            "database_url": f"sqlite+aiosqlite:///{folder}/auth.db",
            "keys_dir": folder / "keys",
            "argon2_time_cost": 1,
            "argon2_memory_kib": 32,
            **settings,
        }
    )
    app = build(chosen, on_fatal=lambda: pytest.fail("auth lost its broker for good"))
    async with listening(app, chosen, name="auth") as at, aiohttp.ClientSession() as http:
        auth = Auth(at.url, at.ops_url, http)
        while (await auth.call("GET", "/readyz")).status != 200:
            pass
        yield auth


@pytest.fixture(name="auth")
async def _auth(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Auth]:
    async with running_auth(stream, tmp_path) as auth:
        yield auth

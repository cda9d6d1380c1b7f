"""Authorizers of other applications: one that tests make misbehave, and the example as a process of its own."""

import base64
import json
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from beaconfire.nats_server import free_port
from beaconfire.processes import Process
from beaconfire_kit import webhooks
from beaconfire_kit.authorizer import AuthorizerSetting
from beaconfire_kit.secret_files import read_secret

EXAMPLE = Path(__file__).parents[1] / "examples" / "authorizer" / "authorizer.py"
Answering = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def write_secret(folder: Path, name: str = "authorizer.secret") -> Path:
    path = folder / name
    path.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    return path


class FakeAuthorizer:
    """Answers over HTTP what a test wants. It checks every signature."""

    def __init__(self, secret: Path, root_kind: str) -> None:
        self.secret = secret
        self.root_kind = root_kind
        self.roles: dict[str, dict[str, str]] = {}
        self.version = 0
        self.asked: list[dict[str, Any]] = []
        self.answer: Answering = self.decide
        self.url = ""

    @property
    def setting(self) -> AuthorizerSetting:
        return AuthorizerSetting(root_kind=self.root_kind, url=self.url, secret_files=(str(self.secret),))

    async def decide(self, _request: web.Request, question: dict[str, Any]) -> web.StreamResponse:
        """The honest answer."""
        roles = {root: self.roles.get(root, {}).get(question["userId"]) for root in question["roots"]}
        return web.json_response({"version": self.version, "roles": roles})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        webhooks.verify([read_secret(str(self.secret), "base64")], request.headers, body)
        question = json.loads(body)
        self.asked.append(question)
        return await self.answer(request, question)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeAuthorizer"]:
        app = web.Application()
        app.router.add_post("/authorize", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/authorize"
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class RealAuthorizer:
    """The example, in a process that can be frozen."""

    process: Process
    port: int
    secret: Path
    roles_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/authorize"

    def setting(self, root_kind: str) -> AuthorizerSetting:
        return AuthorizerSetting(root_kind=root_kind, url=self.url, secret_files=(str(self.secret),))

    def allow(self, roles: dict[str, dict[str, str]], *, version: int) -> None:
        """Change what it answers from now on."""
        new = self.roles_file.with_suffix(".new")
        new.write_text(json.dumps({"version": version, "roles": roles}))
        new.replace(self.roles_file)

    async def until_it_answers(self) -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(self.url):
                        return
                except aiohttp.ClientError:
                    assert self.process.is_running, self.process.last_lines


@contextmanager
def running_example(folder: Path) -> Iterator[RealAuthorizer]:
    """The example, started as its page says."""
    secret, roles, port = write_secret(folder), folder / "roles.json", free_port()
    command = [sys.executable, str(EXAMPLE), str(port), str(secret), str(roles)]
    made = RealAuthorizer(Process("authorizer", command, log_path=folder / "authorizer.log"), port, secret, roles)
    made.allow({}, version=1)
    made.process.start()
    try:
        yield made
    finally:
        made.process.thaw()
        made.process.kill()

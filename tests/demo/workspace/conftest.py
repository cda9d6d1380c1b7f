"""The workspace service between real parts: broker, auth, database, sockets. `Heard` has its events."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.local_services import publisher_of
from beaconfire.nats_server import NatsServer
from beaconfire_demo.applications import WORKSPACE
from beaconfire_demo.workspace.app import build
from beaconfire_demo.workspace.settings import Settings
from beaconfire_kit.received import Received
from beaconfire_kit.serving import listening
from tests.auth.conftest import Auth, running_auth
from tests.conftest import broker_settings, connected
from tests.databases import database_url
from tests.publisher.conftest import PATIENCE_S, USERS, Api, Heard


@dataclass(frozen=True, slots=True)
class Workspace:
    """A running service, its users, and a workspace with an owner, an editor and a viewer."""

    heard: Heard
    auth: Auth
    users: dict[str, Api] = field(default_factory=dict)
    workspace_id: str = ""
    passed: list[Received] = field(default_factory=list)
    """Events that came before one that a test waited for. Only the events of one root come in order."""

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
        return replace(self.owner, token=None)

    @property
    def workspace(self) -> str:
        """The workspace's path."""
        return f"/v1/workspaces/{self.workspace_id}"

    @property
    def approvals(self) -> str:
        return f"{self.workspace}/approvals"

    @property
    def messages(self) -> str:
        """The path of the chat's messages."""
        return f"{self.workspace}/chats/general/messages"

    async def approval(self, **more: Any) -> dict[str, Any]:
        """A new approval, requested by the editor. Its event is heard already."""
        answer = await self.editor.post(self.approvals, {"title": "Buy oil", **more})
        assert answer.status == 201, answer
        await self.told("approval.created")
        return dict(answer.body["approval"])

    async def told(self, kind: str) -> dict[str, Any]:
        """Wait for the next event of this type. Return its payload."""
        while (found := next((event for event in self.passed if event.type == kind), None)) is None:
            self.passed.append(await self.heard.event())
        self.passed.remove(found)
        return dict(found.payload.model_dump(mode="json"))


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


@pytest.fixture(name="workspace")
async def _workspace(stream: NatsServer, auth: Auth, heard: Heard, tmp_path: Path) -> AsyncIterator[Workspace]:
    await asyncio.to_thread(stream.permit, publishers=[publisher_of(WORKSPACE)])
    settings = Settings(
        **{
            **broker_settings(stream, "workspace").model_dump(),
            "port": 0,
            "database_url": database_url(tmp_path, "workspace"),
            "migrate_on_start": True,
            "jwks_url": f"{auth.url}/.well-known/jwks.json",
        }
    )
    app = build(settings, on_fatal=lambda: pytest.fail("the service lost its broker for good"))
    async with aiohttp.ClientSession() as http, listening(app, settings, name="workspace") as at:
        people = {name: await auth.sign_up(name) for name in USERS}
        users = {name: Api(http, at.url, person.token, person.id) for name, person in people.items()}
        async with asyncio.timeout(PATIENCE_S):
            while (await Api(http, at.url).get("/readyz")).status != 200:
                await asyncio.sleep(0.01)
            while (created := await users["owner"].post("/v1/workspaces", {"name": "Lanterns"})).status == 503:
                await asyncio.sleep(0.1)  # auth did not answer in time: the machine is busy
        workspace_id = created.body["workspace"]["id"]
        members = f"/auth/roots/workspace:{workspace_id}/members"
        for role in ("editor", "viewer"):
            body = {"email": people[role].email, "role": role}
            assert (await auth.call("POST", members, body, token=people["owner"].token)).status == 201
        yield Workspace(heard, auth, users, workspace_id)

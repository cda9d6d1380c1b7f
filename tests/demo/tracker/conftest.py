"""The tracker between real parts: broker, auth, database, sockets. `Heard` has its events as a gateway gets them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.local_services import publisher_of
from beaconfire.nats_server import NatsServer
from beaconfire_demo.applications import APPLICATIONS
from beaconfire_demo.tracker.app import build
from beaconfire_demo.tracker.settings import Settings
from beaconfire_kit.serving import listening
from tests.auth.conftest import Auth
from tests.conftest import broker_settings
from tests.databases import database_url
from tests.demo.conftest import found_workspace
from tests.publisher.conftest import PATIENCE_S, Api, Heard, Reply


@dataclass(frozen=True, slots=True)
class Tracker:
    """A running tracker, its users, and a workspace with an owner, an editor and a viewer."""

    heard: Heard
    users: dict[str, Api] = field(default_factory=dict)
    workspace_id: str = ""

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
    def workspace(self) -> str:
        """The workspace's path."""
        return f"/v1/tracker/workspaces/{self.workspace_id}"

    async def create(self, path: str, **body: Any) -> dict[str, Any]:
        """A new thing below the workspace, created by the editor."""
        answer = await self.insist("POST", f"{self.workspace}/{path}", body)
        assert answer.status == 201, answer
        (thing,) = answer.body.values()
        return dict(thing)

    async def team(self, key: str = "ENG") -> str:
        """The path of a new team's issues, below the workspace."""
        team = await self.create("teams", name=f"Team {key}", key=key)
        return f"teams/{team['id']}/issues"

    async def insist(self, method: str, path: str, body: Any, **headers: str) -> Reply:
        """Call as the editor, and again while the answer is "try again", which means that nothing was changed."""
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await self.editor.call(method, path, body, **headers)).status == 503:
                pass
            return answer

    async def told(self, kind: str) -> dict[str, Any]:
        """Wait for the next event of this type. Return its payload. Events of other types in between are dropped."""
        while (event := await self.heard.event()).type != kind:
            pass
        return dict(event.payload.model_dump(mode="json"))


@pytest.fixture(name="tracker")
async def _tracker(stream: NatsServer, auth: Auth, heard: Heard, tmp_path: Path) -> AsyncIterator[Tracker]:
    await asyncio.to_thread(stream.permit, publishers=[publisher_of(APPLICATIONS["tracker"])])
    settings = Settings(
        **{
            **broker_settings(stream, "tracker").model_dump(),
            "port": 0,
            "database_url": database_url(tmp_path, "tracker"),
            "migrate_on_start": True,
            "jwks_url": f"{auth.url}/.well-known/jwks.json",
        }
    )
    app = build(settings, on_fatal=lambda: pytest.fail("the tracker lost its broker for good"))
    async with aiohttp.ClientSession() as http, listening(app, settings, name="tracker") as at:
        users, workspace_id = await found_workspace(auth, http, at.url, "/v1/tracker/workspaces")
        yield Tracker(heard, users, workspace_id)

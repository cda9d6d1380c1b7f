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
from tests.auth.conftest import Auth
from tests.conftest import broker_settings
from tests.databases import database_url
from tests.demo.conftest import found_workspace
from tests.publisher.conftest import PATIENCE_S, Api, Heard


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
    app = build(
        settings,
        on_fatal=lambda: pytest.fail("the service lost its broker for good"),
        cursor_wait_s=PATIENCE_S,  # each answer to a change has its cursor
    )
    async with aiohttp.ClientSession() as http, listening(app, settings, name="workspace") as at:
        users, workspace_id = await found_workspace(auth, http, at.url, "/v1/workspaces")
        yield Workspace(heard, auth, users, workspace_id)

"""What the applications' services have around them: auth, the events of a gateway, and a workspace with members."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from tests.auth.conftest import Auth, running_auth
from tests.conftest import connected
from tests.publisher.conftest import PATIENCE_S, USERS, Api, Heard


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


async def found_workspace(auth: Auth, http: aiohttp.ClientSession, url: str, path: str) -> tuple[dict[str, Api], str]:
    """Wait until a service is ready, and create a workspace there with an owner, an editor and a viewer.

    Return the users, one of whom is a stranger, and the workspace's id.
    """
    people = {name: await auth.sign_up(name) for name in USERS}
    users = {name: Api(http, url, person.token, person.id) for name, person in people.items()}
    async with asyncio.timeout(PATIENCE_S):
        while (await Api(http, url).get("/readyz")).status != 200:
            await asyncio.sleep(0.01)
        while (created := await users["owner"].post(path, {"name": "Lanterns"})).status == 503:
            await asyncio.sleep(0.1)  # auth did not answer in time: the machine is busy
    workspace_id = created.body["workspace"]["id"]
    members = f"/auth/roots/workspace:{workspace_id}/members"
    for role in ("editor", "viewer"):
        body = {"email": people[role].email, "role": role}
        assert (await auth.call("POST", members, body, token=people["owner"].token)).status == 201
    return users, workspace_id

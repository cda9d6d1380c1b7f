"""Sessions of one user whose tokens grant different roles: none of them gets what only another token grants."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from nats.aio.msg import Msg

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.authorization import AskingPolicy, Authorization
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_kit.authorization import AUTHORIZE, HTTP_PATH, QUEUE, Auth
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.roles import Role
from beaconfire_kit.verifier import Verifier
from tests.conftest import connected
from tests.gateway.core import open_connection
from tests.websocket import client_frame

ROOM = "campaign:c1"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


class Roles:
    """Says which role each token has in the room, over HTTP and over the broker."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.version = 1
        self.held: asyncio.Event | None = None
        """If a test gives one, the next question is decided at once, and answered once the event is set."""
        self.holds = False

    async def answer(self, token: str, rooms: list[str]) -> dict[str, Any]:
        role = self.of.get(token)
        one = {"allowed": True, "root": ROOM, "role": role} if role is not None else {"allowed": False}
        answer = {"version": self.version, "rooms": dict.fromkeys(rooms, one)}
        gate, self.held = self.held, None
        if gate is not None:
            self.holds = True
            await gate.wait()
        return answer


@pytest.fixture(name="roles")
def _roles() -> Roles:
    return Roles()


@pytest.fixture(name="verifier")
async def _verifier(tmp_path: Path) -> AsyncIterator[Verifier]:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    grants = {"campaign:*": Role.EDITOR}
    shop = OutsideIssuer(name="shop", issuer="shop", require_aud=False, secret_files=(str(path),), grants=grants)
    async with aiohttp.ClientSession() as http:
        yield Verifier(http, "", issuer="beaconfire", audience="beaconfire", outside=(shop,))


@pytest.fixture(name="away")
async def _away(core: Core, roles: Roles, verifier: Verifier) -> AsyncIterator[Authorization]:
    """The broker is away, so auth is asked over HTTP."""

    async def authorize(request: web.Request) -> web.Response:
        token = request.headers["Authorization"].split()[1]
        return web.json_response(await roles.answer(token, (await request.json())["rooms"]))

    app = web.Application()
    app.router.add_post(HTTP_PATH, authorize)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as http:
            auth = Auth(http, f"http://127.0.0.1:{runner.addresses[0][1]}")
            core.access = authorization = Authorization(auth, verifier, core.hub)
            core.begin("epoch", 0)
            yield authorization
    finally:
        await runner.cleanup()


@pytest.fixture(name="there")
async def _there(stream: NatsServer, core: Core, roles: Roles, verifier: Verifier) -> AsyncIterator[Authorization]:
    """Auth is asked over the broker. Every lease is due at once."""
    async with connected(stream, "auth") as nc, connected(stream, "gateway") as gateway, asyncio.TaskGroup() as tasks:

        async def answer(message: Msg) -> None:
            asked = json.loads(message.data)
            reply = await roles.answer(asked["newcomer"]["token"], asked["rooms"])
            await nc.publish(message.reply, json.dumps(reply).encode())

        async def hear(message: Msg) -> None:
            tasks.create_task(answer(message))

        await nc.subscribe(AUTHORIZE, queue=QUEUE, cb=hear)
        await nc.flush()
        auth = Auth()
        auth.nc = gateway
        policy = AskingPolicy(renew_after_s=0, renew_every_s=0)
        core.access = authorization = Authorization(auth, verifier, core.hub, policy)
        core.begin("epoch", 0)
        yield authorization


def token(granted: str | None) -> str:
    now = int(time.time())
    claims = {"iss": "shop", "sub": "alice", "iat": now, "exp": now + 600}
    return jwt.encode({**claims, "beaconfire": {ROOM: granted} if granted else {}}, SECRET, headers={"typ": "JWT"})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def send(connection: WebSocket, **message: object) -> None:
    connection.data_received(client_frame(json.dumps(message).encode()))


def role(connection: WebSocket) -> Role | None:
    joined = connection.rooms.get(ROOM)
    return joined.role if joined is not None else None


async def joined(core: Core, token: str) -> WebSocket:
    connection = open_connection(core)
    send(connection, type="connect", id=1, token=token, rooms=[ROOM])
    await until(lambda: connection.state is State.LIVE)
    return connection


async def test_removed_member_does_not_stay_for_what_a_token_of_another_session_grants(
    core: Core, roles: Roles, away: Authorization
) -> None:
    with_grant, without = token("editor"), token(None)
    roles.of = {without: "viewer"}
    removed = await joined(core, without)
    roles.of, roles.version = {with_grant: "editor"}, 2
    await joined(core, with_grant)
    change = MemberChanged(root_kind="campaign", root_id="c1", user_id="shop-alice", role=None, membership_version=2)
    away.member_changed(change)

    assert role(removed) is None


async def test_answer_about_a_replaced_token_gives_no_role_back(core: Core, roles: Roles, there: Authorization) -> None:
    old, new = token("editor"), token("viewer")
    roles.of = {old: "editor", new: "viewer"}
    connection = await joined(core, old)
    roles.held = gate = asyncio.Event()
    renewing = asyncio.create_task(there.renew())
    await until(lambda: roles.holds)
    send(connection, type="refresh", id=2, token=new)
    await until(lambda: role(connection) is Role.VIEWER)
    before = connection.leased_at
    gate.set()
    await until(lambda: connection.leased_at > before)
    renewing.cancel()

    assert role(connection) is Role.VIEWER

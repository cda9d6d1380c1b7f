"""Peers of ours that tests need to misbehave: real on the wire, simple behind it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.msg import Msg

from beaconfire_kit import tokens
from beaconfire_kit.authorization import AUTHORIZE, QUEUE
from tests.conftest import Broker, connected


class FakeAuth:
    """Answers `auth.authorize` on the real broker and serves a real JWKS. Its members are a dict.

    `members[user][root]` is a role. `answer` may be replaced by a test: return None to stay silent.
    """

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.members: dict[str, dict[str, str]] = {}
        self.version = 1
        self.revoked: set[str] = set()
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = self.decide
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.jwks_url = ""
        self.jwks_fetched = 0

    def token(self, user: str, *, ttl_s: int = 900) -> str:
        """An access token that this auth would issue."""
        return tokens.sign(
            self.key, "k1", user_id=user, name=user, issuer="beaconfire", audience="beaconfire", ttl_s=ttl_s
        )

    def decide(self, question: dict[str, Any]) -> dict[str, Any]:
        """The honest answer."""
        user = question["userId"]
        roles = {**self.members.get(user, {}), f"user:{user}": "owner"}
        rooms: dict[str, Any] = {}
        for name in question["rooms"]:
            root = name.rpartition("/")[0] or name
            allowed = root in roles
            rooms[name] = {"allowed": allowed, **({"root": root, "role": roles[root]} if allowed else {})}
        kind = question.get("rootsOf")
        roots = {root: role for root, role in roles.items() if kind and root.startswith(f"{kind}:")}
        return {"version": self.version, "rooms": rooms, "roots": roots, "revoked": user in self.revoked}

    @asynccontextmanager
    async def running(self, server: Broker) -> AsyncIterator["FakeAuth"]:
        """On the broker as user `auth`, and on HTTP for its keys."""

        async def jwks(_request: web.Request) -> web.Response:
            self.jwks_fetched += 1
            return web.json_response({"keys": [tokens.public_jwk("k1", self.key.public_key())]})

        async def authorize(message: Msg) -> None:
            question = json.loads(message.data)
            self.asked.append(question)
            answer = self.answer(question)
            if self.before_answer is not None:
                await self.before_answer()
            if answer is not None:
                # not `respond`: it would send the question's headers back, as no service of ours does
                await nc.publish(message.reply, json.dumps(answer).encode())

        app = web.Application()
        app.router.add_get("/jwks", jwks)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.jwks_url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
        try:
            async with connected(server, "auth") as nc:
                await nc.subscribe(AUTHORIZE, queue=QUEUE, cb=authorize)
                await nc.flush()
                yield self
        finally:
            await runner.cleanup()

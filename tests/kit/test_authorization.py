"""Asking auth over HTTP while the broker is away: long answers are read whole, endless ones are not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from beaconfire_kit.authorization import (
    HTTP_PATH,
    MAX_ANSWER_BYTES,
    Auth,
    AuthorizeReply,
    AuthUnavailable,
    offer,
    question,
)
from beaconfire_kit.roles import Role
from beaconfire_kit.tokens import Claims

CLAIMS = Claims("u1", "", 0, 0, "")


@asynccontextmanager
async def asking(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Auth]:
    """An Auth without a broker, and an auth that answers over HTTP so."""
    app = web.Application()
    app.router.add_post(HTTP_PATH, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as http:
            yield Auth(http, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


async def test_long_answer_of_auth_is_read_whole() -> None:
    """A user with thousands of campaigns gets all of them, although the answer arrives in many pieces."""
    reply = AuthorizeReply(version=1, roots={f"campaign:{number:064}": Role.OWNER for number in range(8_000)})
    text = reply.model_dump_json(by_alias=True, exclude_none=True)

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    async with asking(answer) as auth:
        offer(CLAIMS, "a.b.c")
        told = await auth.authorize(question(CLAIMS, roots_of="campaign"))

    assert told == reply
    assert len(text) > MAX_ANSWER_BYTES / 2


async def test_endless_answer_of_auth_is_read_only_to_its_largest_size() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    async with asking(answer) as auth:
        offer(CLAIMS, "a.b.c")
        with pytest.raises(AuthUnavailable):
            await auth.authorize(question(CLAIMS, ["campaign:c1"]))

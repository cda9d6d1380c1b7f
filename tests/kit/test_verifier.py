"""beaconfire_kit.verifier: where the keys come from, and how often they are asked for."""

import asyncio
import contextlib
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from beaconfire_kit import tokens
from beaconfire_kit.settings import OutsideIssuer
from beaconfire_kit.tokens import InvalidToken
from beaconfire_kit.verifier import MAX_JWKS_BYTES, NO_KEYS_S, JwksUnavailable, Verifier
from tests.forgery import KEY, OTHER_KEY, forged


def signed(**change: Any) -> str:
    about: dict[str, Any] = {
        "key": KEY,
        "key_id": "k1",
        "user_id": "owner",
        "name": "Owner",
        "issuer": "beaconfire",
        "audience": "beaconfire",
        "ttl_s": 60,
    }
    return tokens.sign(**{**about, **change})


class KeyServer:
    """Serves a JWKS over HTTP, counts who asks, and may fail."""

    def __init__(self) -> None:
        self.keys = {"k1": KEY}
        self.fetched = 0
        self.status = 200
        self.url = ""
        self.document: bytes | None = None
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def jwks(self, request: web.Request) -> web.StreamResponse:
        self.fetched += 1
        if self.answer is not None:
            return await self.answer(request)
        if self.document is not None:
            return web.Response(body=self.document)
        keys = [tokens.public_jwk(kid, key.public_key()) for kid, key in self.keys.items()]
        return web.json_response({"keys": keys}, status=self.status)


@asynccontextmanager
async def running_issuer() -> AsyncIterator[KeyServer]:
    issuer = KeyServer()
    app = web.Application()
    app.router.add_get("/jwks", issuer.jwks)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    try:
        yield issuer
    finally:
        await runner.cleanup()


@pytest.fixture(name="issuer")
async def _issuer() -> AsyncIterator[KeyServer]:
    async with running_issuer() as issuer:
        yield issuer


@asynccontextmanager
async def verifier(issuer: KeyServer, **more: Any) -> AsyncIterator[Verifier]:
    async with aiohttp.ClientSession() as http:
        yield Verifier(http, issuer.url, issuer="beaconfire", audience="beaconfire", **more)


async def test_keys_are_fetched_once(issuer: KeyServer) -> None:
    """Many tokens at once cost one fetch."""
    async with verifier(issuer) as checks:
        claims = await asyncio.gather(*(checks.verify(signed()) for _ in range(20)))

    assert {one.user_id for one in claims} == {"owner"}
    assert issuer.fetched == 1


async def test_rotation(issuer: KeyServer) -> None:
    """A new key is fetched when a token first names it; the older one's tokens stay good."""
    async with verifier(issuer, refetch_s=0) as checks:
        old = signed()
        await checks.verify(old)
        issuer.keys["k2"] = OTHER_KEY
        new = tokens.sign(
            OTHER_KEY, "k2", user_id="editor", name="", issuer="beaconfire", audience="beaconfire", ttl_s=60
        )

        assert (await checks.verify(new)).user_id == "editor"
        assert (await checks.verify(signed())).user_id == "owner"


@pytest.mark.parametrize("status", [200, 500])
async def test_flood_of_unknown_keys(issuer: KeyServer, status: int) -> None:
    """A hundred unknown keys cost one fetch and are refused, also where the fetch fails; good tokens still pass."""
    unknown = [forged({"kid": f"unknown-{number}"}) for number in range(100)]
    now = 0.0
    async with verifier(issuer, monotonic=lambda: now) as checks:
        await checks.verify(signed())
        issuer.status = status
        now += 6
        answers = await asyncio.gather(*(checks.verify(token) for token in unknown), return_exceptions=True)
        good = await checks.verify(signed())

    assert {type(answer) for answer in answers} == {tokens.UnknownKey}
    assert issuer.fetched == 2
    assert good.user_id == "owner"


async def test_two_rotations_under_a_flood(issuer: KeyServer) -> None:
    """While a hundred unknown keys are named in each window, a new key is known with the window's one fetch."""
    now, key = 0.0, {"k2": Ed25519PrivateKey.generate(), "k3": Ed25519PrivateKey.generate()}
    async with verifier(issuer, monotonic=lambda: now) as checks:
        await checks.verify(signed())
        for fetches, kid in enumerate(("k2", "k3"), start=2):
            issuer.keys[kid] = key[kid]
            now += 6
            flood = (checks.verify(forged({"kid": f"{kid}-{number}"})) for number in range(100))
            new = signed(key=key[kid], key_id=kid)
            *refused, claims = await asyncio.gather(*flood, checks.verify(new), return_exceptions=True)

            assert {type(one) for one in refused} == {tokens.UnknownKey}
            assert isinstance(claims, tokens.Claims)
            assert issuer.fetched == fetches
        assert (await checks.verify(signed())).user_id == "owner"


async def test_retired_key(issuer: KeyServer) -> None:
    """A key that is gone from the JWKS is believed for a minute at most, also for tokens seen before."""
    now, old = 0.0, signed()
    async with verifier(issuer, monotonic=lambda: now) as checks:
        await checks.verify(old)
        issuer.keys = {"k2": OTHER_KEY}
        now += 61

        for token in (old, signed()):
            with pytest.raises(InvalidToken):
                await checks.verify(token)


async def test_retired_key_of_another_issuer(issuer: KeyServer) -> None:
    """A token seen before is judged by its own issuer's keys, whatever another calls its own."""
    now, name = 0.0, "https://okta.example"
    async with running_issuer() as okta:
        outside = OutsideIssuer(
            name="okta", issuer=name, jwks_url=okta.url, audience="beaconfire", algorithms=("EdDSA",)
        )
        async with verifier(issuer, monotonic=lambda: now, outside=[outside]) as checks:
            own, theirs = signed(), signed(issuer=name)
            for token in (own, theirs):
                await checks.verify(token)
            okta.keys = {"k2": OTHER_KEY}
            now += 61

            with pytest.raises(InvalidToken):
                await checks.verify(theirs)
            assert (await checks.verify(own)).key_id == "k1"


async def test_one_key_one_name(issuer: KeyServer) -> None:
    """All that one key signed name it by one string, however many are remembered."""
    async with verifier(issuer) as checks:
        first, second = await checks.verify(signed()), await checks.verify(signed())

    assert first.token_id != second.token_id
    assert first.key_id is second.key_id


async def test_issuer_away_later(issuer: KeyServer) -> None:
    """Keys that are known stay good while their issuer is away."""
    now = 0.0
    async with verifier(issuer, monotonic=lambda: now) as checks:
        await checks.verify(signed())
        issuer.status = 500
        now += 61

        assert (await checks.verify(signed())).user_id == "owner"
    assert issuer.fetched == 2


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'"keys"', b'{"keys": 1}', b"\xff", b'{"keys": [' + b"0," * 200_000 + b"0]}"]
)
async def test_what_is_no_jwks(issuer: KeyServer, document: bytes) -> None:
    """An answer that is no JWKS, or far too large for one, is as good as none."""
    issuer.document = document
    async with verifier(issuer) as checks:
        with pytest.raises(JwksUnavailable):
            await checks.verify(signed())


def service_token(**change: Any) -> str:
    now = int(time.time())
    about = {
        "service": "weather",
        "publish": ("campaign.>",),
        "issued_at": now,
        "expires_at": now + 60,
        "token_id": "t1",
    }
    claims = tokens.ServiceClaims(**{**about, "token_id": "t1", **change})
    return tokens.sign_service(KEY, "k1", claims, issuer="beaconfire", audience="beaconfire")


async def test_users_and_services(issuer: KeyServer) -> None:
    """A service's token is no user's, and a user's no service's."""
    async with verifier(issuer) as checks:
        assert (await checks.verify_service(service_token())).service == "weather"
        assert isinstance(await checks.verify_any(service_token()), tokens.ServiceClaims)
        assert isinstance(await checks.verify_any(signed()), tokens.Claims)
        for wrong, token in ((checks.verify, service_token()), (checks.verify_service, signed())):
            with pytest.raises(InvalidToken):
                await wrong(token)


async def test_issuer_away(issuer: KeyServer) -> None:
    """Without any key nothing is decided, which is retryable; once the issuer is back, tokens are verified."""
    now = 0.0
    issuer.status = 500
    async with verifier(issuer, monotonic=lambda: now) as checks:
        with pytest.raises(JwksUnavailable):
            await checks.verify(signed())
        issuer.status = 200
        now += NO_KEYS_S

        assert (await checks.verify(signed())).user_id == "owner"


async def test_askers_share_one_failed_fetch(issuer: KeyServer) -> None:
    """While there are no keys, everybody who waits gets the outcome of the one fetch that runs, and so does everybody
    who comes within the next second: nobody queues behind the time-outs of others."""
    now, asked, go_on = 0.0, asyncio.Event(), asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return web.Response(status=503)

    issuer.answer = hang
    async with verifier(issuer, monotonic=lambda: now) as checks:
        waiting = [asyncio.create_task(checks.verify(signed())) for _ in range(20)]
        await asked.wait()
        go_on.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        later = await asyncio.gather(*(checks.verify(signed()) for _ in range(20)), return_exceptions=True)

    assert {type(one) for one in (*outcomes, *later)} == {JwksUnavailable}
    assert issuer.fetched == 1


async def test_an_asker_who_leaves_takes_nobody_along(issuer: KeyServer) -> None:
    """If the caller whose turn it is to fetch goes away, the next one fetches."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return web.json_response({"keys": [tokens.public_jwk("k1", KEY.public_key())]})

    issuer.answer = hang
    async with verifier(issuer) as checks:
        first = asyncio.create_task(checks.verify(signed()))
        await asked.wait()
        second = asyncio.create_task(checks.verify(signed()))
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()

        assert (await second).user_id == "owner"


def jwks() -> bytes:
    return json.dumps({"keys": [tokens.public_jwk("k1", KEY.public_key())]}).encode()


async def in_chunks(request: web.Request) -> web.StreamResponse:
    """A JWKS whose length is not told."""
    response = web.StreamResponse()
    await response.prepare(request)
    for at in range(0, len(jwks()), 16):
        await response.write(jwks()[at : at + 16])
    return response


async def in_gzip(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(jwks()), headers={"Content-Encoding": "gzip"})


async def in_deflate(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=zlib.compress(jwks()), headers={"Content-Encoding": "deflate"})


@pytest.mark.parametrize("answer", [in_chunks, in_gzip, in_deflate])
async def test_answers_that_are_fine(
    issuer: KeyServer, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    """A JWKS is read in chunks and compressed, as issuers behind some proxies send it unasked."""
    issuer.answer = answer
    async with verifier(issuer) as checks:
        assert (await checks.verify(signed())).user_id == "owner"


async def without_end(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"keys": [')
    while True:
        await response.write(b" " * 65_536)


async def too_long_in_chunks(request: web.Request) -> web.StreamResponse:
    """A good JWKS behind more white space than one may have."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b" " * MAX_JWKS_BYTES)
    await response.write(jwks())
    return response


async def gzip_bomb(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=BOMB, headers={"Content-Encoding": "gzip"})


async def deflate_bomb(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=DEFLATE_BOMB, headers={"Content-Encoding": "deflate"})


async def bomb_in_chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Encoding": "x-gzip"})
    await response.prepare(request)
    await response.write(BOMB)
    return response


async def packed_twice(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(BOMB), headers={"Content-Encoding": "gzip, gzip"})


async def packed_otherwise(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=jwks(), headers={"Content-Encoding": "br"})


async def not_packed(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=jwks(), headers={"Content-Encoding": "gzip"})


async def cut_off(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(jwks())[:-12], headers={"Content-Encoding": "gzip"})


async def elsewhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(str(request.url.with_query(again="1")))


async def silent(request: web.Request) -> web.StreamResponse:
    """Headers, and then nothing."""
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


async def drop_by_drop(request: web.Request) -> web.StreamResponse:
    """A byte now and then, so that no single wait is long."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.1)


BOMB_BYTES = 64 * 1024 * 1024
BOMB = gzip.compress(b" " * BOMB_BYTES, 9)
DEFLATE_BOMB = zlib.compress(b" " * BOMB_BYTES, 9)
HOSTILE_ANSWERS = [
    without_end,
    too_long_in_chunks,
    gzip_bomb,
    deflate_bomb,
    bomb_in_chunks,
    packed_twice,
    packed_otherwise,
    not_packed,
    cut_off,
    elsewhere,
    silent,
    drop_by_drop,
]


@pytest.mark.parametrize("answer", HOSTILE_ANSWERS)
async def test_hostile_answers_are_bounded(
    issuer: KeyServer, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    """Whatever an issuer sends, the fetch ends, counts as failed, and takes little memory."""
    issuer.answer = answer
    async with verifier(issuer) as checks:
        tracemalloc.start()
        try:
            with pytest.raises(JwksUnavailable):
                await checks.verify(signed())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 16 * MAX_JWKS_BYTES
    assert issuer.fetched == 1


async def test_remembered_tokens_run_out(issuer: KeyServer) -> None:
    """A token that was verified before is refused once it has expired."""
    now = time.time()
    async with verifier(issuer, clock=lambda: now) as checks:
        token = signed(ttl_s=60)
        await checks.verify(token)
        now += 60 + tokens.LEEWAY_S + 1

        with pytest.raises(InvalidToken):
            await checks.verify(token)

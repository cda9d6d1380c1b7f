"""Keys are fetched from their issuer, and not too often."""

import asyncio
import contextlib
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from beaconfire_kit import tokens
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.tokens import InvalidToken
from beaconfire_kit.verifier import MAX_JWKS_BYTES, NO_KEYS_S, JwksUnavailable, Verifier
from tests.forgery import KEY, OTHER_KEY, forged, hmac_with
from tests.issuers import ISSUER, SECRET, SIGNERS


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
    """Serves a JWKS over HTTP, counts requests, and may fail."""

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


async def test_many_tokens_at_once_cost_one_fetch_of_keys(issuer: KeyServer) -> None:
    async with verifier(issuer) as checks:
        claims = await asyncio.gather(*(checks.verify(signed()) for _ in range(20)))

    assert {one.user_id for one in claims} == {"owner"}
    assert issuer.fetched == 1


async def test_new_key_is_fetched_when_a_token_names_it_and_old_tokens_stay_valid(issuer: KeyServer) -> None:
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
async def test_hundred_unknown_keys_cost_one_fetch_while_good_tokens_pass(issuer: KeyServer, status: int) -> None:
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


async def test_new_key_is_known_with_the_one_fetch_of_a_window_under_a_flood_of_unknown_keys(issuer: KeyServer) -> None:
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


async def test_retired_key_is_believed_for_a_minute_at_most(issuer: KeyServer) -> None:
    """This also holds for tokens that were seen before."""
    now, old = 0.0, signed()
    async with verifier(issuer, monotonic=lambda: now) as checks:
        await checks.verify(old)
        issuer.keys = {"k2": OTHER_KEY}
        now += 61

        for token in (old, signed()):
            with pytest.raises(InvalidToken):
                await checks.verify(token)


async def test_remembered_token_is_judged_by_its_own_issuers_keys(issuer: KeyServer) -> None:
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


async def test_remembered_tokens_of_one_key_share_one_string(issuer: KeyServer) -> None:
    async with verifier(issuer) as checks:
        first, second = await checks.verify(signed()), await checks.verify(signed())

    assert first.token_id != second.token_id
    assert first.key_id is second.key_id


async def test_known_keys_stay_valid_while_their_issuer_is_away(issuer: KeyServer) -> None:
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
async def test_invalid_or_oversized_jwks_counts_as_a_failed_fetch(issuer: KeyServer, document: bytes) -> None:
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


async def test_service_token_is_no_user_token_and_the_reverse(issuer: KeyServer) -> None:
    async with verifier(issuer) as checks:
        assert (await checks.verify_service(service_token())).service == "weather"
        assert isinstance(await checks.verify_any(service_token()), tokens.ServiceClaims)
        assert isinstance(await checks.verify_any(signed()), tokens.Claims)
        for wrong, token in ((checks.verify, service_token()), (checks.verify_service, signed())):
            with pytest.raises(InvalidToken):
                await wrong(token)


async def test_without_keys_the_answer_is_retryable_until_the_issuer_is_back(issuer: KeyServer) -> None:
    now = 0.0
    issuer.status = 500
    async with verifier(issuer, monotonic=lambda: now) as checks:
        with pytest.raises(JwksUnavailable):
            await checks.verify(signed())
        issuer.status = 200
        now += NO_KEYS_S

        assert (await checks.verify(signed())).user_id == "owner"


async def test_waiting_callers_share_one_failed_fetch(issuer: KeyServer) -> None:
    """Callers of the next second share it, too, so no caller queues behind the timeouts of others."""
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


async def test_fetch_goes_on_for_others_if_the_caller_that_started_it_leaves(issuer: KeyServer) -> None:
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
    """A JWKS without a `Content-Length`."""
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
async def test_chunked_and_compressed_jwks_are_read(
    issuer: KeyServer, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
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
async def test_hostile_answer_of_an_issuer_ends_as_a_failed_fetch_in_little_memory(
    issuer: KeyServer, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
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


async def test_remembered_token_is_refused_once_it_has_expired(issuer: KeyServer) -> None:
    now = time.time()
    async with verifier(issuer, clock=lambda: now) as checks:
        token = signed(ttl_s=60)
        await checks.verify(token)
        now += 60 + tokens.LEEWAY_S + 1

        with pytest.raises(InvalidToken):
            await checks.verify(token)


async def test_changed_secret_file_is_noticed_without_a_restart_and_the_old_secret_ends(
    issuer: KeyServer, tmp_path: Path
) -> None:
    now, path = 0.0, tmp_path / "secret"
    path.write_bytes(SECRET)
    shop = OutsideIssuer(name="shop", issuer=ISSUER, audience="beaconfire", secret_files=(str(path),))
    old, new = SIGNERS["HS256"].token(), SIGNERS["HS256"].token(sign=hmac_with(b"n" * 32))
    async with verifier(issuer, monotonic=lambda: now, outside=[shop]) as checks:
        assert (await checks.verify(old)).user_id == "shop-alice"
        with pytest.raises(InvalidToken):
            await checks.verify(new)
        path.write_bytes(b"n" * 32)
        now += 6  # an unknown signature makes it look, but not more often

        assert (await checks.verify(new)).user_id == "shop-alice"
        with pytest.raises(InvalidToken):
            await checks.verify(old)


async def test_unreadable_secret_file_leaves_the_known_secret_and_is_logged(issuer: KeyServer, tmp_path: Path) -> None:
    now, path = 0.0, tmp_path / "secret"
    path.write_bytes(SECRET)
    shop = OutsideIssuer(name="shop", issuer=ISSUER, audience="beaconfire", secret_files=(str(path),))
    async with verifier(issuer, monotonic=lambda: now, outside=[shop]) as checks:
        await checks.verify(SIGNERS["HS256"].token())
        path.write_bytes(b"short")
        now += 61
        with capture_logs() as logged:
            claims = await checks.verify(SIGNERS["HS256"].token({"x": 1}))

    assert claims.user_id == "shop-alice"
    assert [line["event"] for line in logged] == ["the secrets of an outside issuer cannot be read"]


async def test_token_of_an_unknown_issuer_costs_no_fetch(issuer: KeyServer) -> None:
    async with verifier(issuer) as checks:
        with pytest.raises(InvalidToken) as refused:
            await checks.verify(forged(claims={"iss": "https://stranger.example"}))

    assert refused.value.reason == "unknown_issuer"
    assert issuer.fetched == 0

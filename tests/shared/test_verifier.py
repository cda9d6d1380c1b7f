"""shared.verifier: where the keys come from, and how often they are asked for."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import tokens
from shared.settings import OutsideIssuer
from shared.tokens import InvalidToken
from shared.verifier import JwksUnavailable, Verifier
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

    async def jwks(self, _request: web.Request) -> web.Response:
        self.fetched += 1
        if self.document is not None:
            return web.Response(body=self.document)
        keys = [tokens.public_jwk(kid, key.public_key()) for kid, key in self.keys.items()]
        return web.json_response({"keys": keys}, status=self.status)


@asynccontextmanager
async def running_issuer() -> AsyncIterator[KeyServer]:
    issuer = KeyServer()
    app = web.Application()
    app.router.add_get("/jwks", issuer.jwks)
    runner = web.AppRunner(app)
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
    issuer.status = 500
    async with verifier(issuer) as checks:
        with pytest.raises(JwksUnavailable):
            await checks.verify(signed())
        issuer.status = 200

        assert (await checks.verify(signed())).user_id == "owner"


async def test_remembered_tokens_run_out(issuer: KeyServer) -> None:
    """A token that was verified before is refused once it has expired."""
    now = time.time()
    async with verifier(issuer, clock=lambda: now) as checks:
        token = signed(ttl_s=60)
        await checks.verify(token)
        now += 60 + tokens.LEEWAY_S + 1

        with pytest.raises(InvalidToken):
            await checks.verify(token)

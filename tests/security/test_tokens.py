"""T4, T7 and T10: every service refuses a text that is not a user's token with the same error, on every interface."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from beaconfire.nats_server import NatsServer
from beaconfire_kit import tokens
from beaconfire_kit.tokens import ServiceClaims
from tests.auth.conftest import OPERATOR_TOKEN
from tests.client import Closed, open_socket
from tests.forgery import Forger, hostile
from tests.security.whole import Whole, connect, running_whole, with_token

TOO_LARGE = {"100 KB"}  # larger than a frame or a header may be: refused before it is looked at
NO_JSON = {"lone surrogate"}  # nor is it a message
MAX_HEADER_BYTES = 8_000
FLOOD = 100


@pytest.fixture(name="whole")
async def _whole(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Whole]:
    async with running_whole(stream, tmp_path) as whole:
        yield whole


def in_a_header(hostile_tokens: dict[str, str]) -> dict[str, str]:
    """Return the tokens that HTTP carries unchanged in a header. It trims white space itself."""
    return {
        name: token
        for name, token in hostile_tokens.items()
        if token.isascii() and token.isprintable() and token == token.strip() and len(token) < MAX_HEADER_BYTES
    }


async def test_invalid_tokens_are_closed_with_4401_and_one_reason_and_leave_no_trace_in_the_log(
    whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    """T4: in the first message and with the upgrade. A good token is still accepted after them."""
    gateway, forger = whole.gateways[0], await whole.forger()
    owner = await whole.sign_up("owner")
    bad = hostile(forger)
    ends = {name: await connect(gateway, token) for name, token in bad.items()}
    offered = {
        name: await connect(gateway, None, headers={"Authorization": f"Bearer {token}"})
        for name, token in in_a_header(bad).items()
    }
    refused = {name: (end.code, end.reason) for name, end in ends.items() if isinstance(end, Closed)}
    unread = {refused.pop(name)[0] for name in TOO_LARGE | NO_JSON}
    log = capsys.readouterr()

    assert len(refused) == len(bad) - len(TOO_LARGE | NO_JSON)
    assert len(set(refused.values())) == 1, refused
    assert next(iter(refused.values()))[0] == 4401
    assert unread == {4413, 4400}
    assert {(end.code, end.reason) for end in offered.values() if isinstance(end, Closed)} == set(refused.values())
    assert len(offered) > 32
    assert "Traceback" not in log.out + log.err
    assert not [name for name, token in bad.items() if len(token) > 100 and token in log.out + log.err]
    assert isinstance(await connect(gateway, owner.token), dict)
    metrics = await gateway.metrics()
    assert not [token for token in (owner.token, *bad.values()) if len(token) > 100 and token in metrics]


@pytest.mark.parametrize("service", ["auth", "publisher"])
async def test_invalid_tokens_get_401_and_one_body_and_leave_no_trace_in_the_log(
    whole: Whole, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """T4: neither a stack trace nor the token itself."""
    url = f"{whole.auth.url}/auth/me" if service == "auth" else f"{whole.publisher.url}/v1/campaigns"
    bad = in_a_header(hostile(await whole.forger()))
    async with aiohttp.ClientSession() as http:
        answers = {name: await with_token(http, url, token) for name, token in bad.items()}
        async with http.get(url, headers={"Authorization": f"Bearer {'x' * 100_000}"}) as answer:
            too_large = answer.status
        owner = await whole.sign_up("owner")
        good = await with_token(http, url, owner.token)
    log = capsys.readouterr()

    assert len(bad) > 32
    assert {status for status, _ in answers.values()} == {401}, answers
    assert {str(body) for _, body in answers.values()} == {str(next(iter(answers.values()))[1])}
    assert next(iter(answers.values()))[1]["error"]["code"] == "token_invalid"
    assert too_large == 400
    assert "Traceback" not in log.out + log.err
    assert not [name for name, token in bad.items() if len(token) > 100 and token in log.out + log.err]
    assert good[0] == 200


def service_token(forger: Forger, **change: str) -> str:
    now = int(time.time())
    claims = ServiceClaims("weather", ("campaign.>",), now, now + 60, "t1")
    return tokens.sign_service(
        forger.key, forger.key_id, claims, **{"issuer": "beaconfire", "audience": "beaconfire", **change}
    )


async def test_service_operator_and_refresh_tokens_are_refused_where_a_users_token_is_needed(whole: Whole) -> None:
    """T10: at the socket, at auth, and at the publisher's calls for people."""
    made = await whole.auth.operate("POST", "service-tokens", {"service": "weather", "publish": ["campaign.>"]})
    owner = await whole.sign_up("owner")
    for token in (made.body["token"], OPERATOR_TOKEN, owner.refresh_token):
        end = await connect(whole.gateways[0], token)
        assert isinstance(end, Closed)
        assert end.code == 4401
        for url in (f"{whole.auth.url}/auth/me", f"{whole.publisher.url}/v1/campaigns"):
            async with aiohttp.ClientSession() as http:
                assert (await with_token(http, url, token))[0] == 401


async def test_service_token_publishes_exactly_what_it_allows_until_it_is_revoked(whole: Whole) -> None:
    """T10: a token that was signed with auth's key but never issued counts as revoked."""
    body = {"service": "weather", "publish": ["campaign.c1.>"]}
    made = (await whole.auth.operate("POST", "service-tokens", body)).body
    service, never_issued = whole.api(made["token"]), whole.api(service_token(await whole.forger()))

    def event(campaign: str) -> dict[str, object]:
        payload = {"scope": "campaign", "campaignId": campaign, "affectedFields": ["mood"]}
        return {"type": "state_invalidated", "payload": payload}

    allowed = await service.post("/v1/events", event("c1"))
    forbidden = await service.post("/v1/events", event("c2"))
    forged = await never_issued.post("/v1/events", event("c1"))
    await whole.auth.operate("DELETE", f"service-tokens/{made['serviceToken']['id']}")
    revoked = await service.post("/v1/events", event("c1"))

    assert allowed.status == 201
    assert forbidden.error == (403, "forbidden")
    assert forged.error == revoked.error == (401, "token_invalid")


async def test_user_and_service_tokens_are_refused_by_operators_calls(whole: Whole) -> None:
    """T10: operators have a token of their own."""
    owner = await whole.sign_up("owner")
    for token in (owner.token, service_token(await whole.forger())):
        for method, path in (("GET", "keys"), ("POST", "keys"), ("POST", "service-tokens")):
            assert (await whole.auth.operate(method, path, {}, token=token)).status == 401


class CountedKeys:
    """Passes auth's JWKS on, and counts requests."""

    def __init__(self) -> None:
        self.asked = 0
        self.auth_url = ""
        self.url = ""

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        async with aiohttp.ClientSession() as http, http.get(f"{self.auth_url}/.well-known/jwks.json") as answer:
            return web.Response(body=await answer.read(), content_type="application/json")


@asynccontextmanager
async def counted_keys() -> AsyncIterator[CountedKeys]:
    counted, app = CountedKeys(), web.Application()
    app.router.add_get("/jwks", counted.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    counted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    try:
        yield counted
    finally:
        await runner.cleanup()


async def test_two_key_rotations_under_a_flood_of_unknown_keys_are_followed(stream: NatsServer, tmp_path: Path) -> None:
    """T7: old tokens stay valid, and each service fetches keys at most every five seconds."""
    async with counted_keys() as counted, running_whole(stream, tmp_path, jwks_url=counted.url) as whole:
        counted.auth_url = whole.auth.url
        gateway, good = whole.gateways[0], [(await whole.sign_up("owner")).token]
        forger = await whole.forger()
        flood = [forger.forged({"kid": f"unknown-{number}"}) for number in range(FLOOD)]
        started = time.monotonic()
        for _ in range(2):
            assert (await whole.auth.operate("POST", "keys", {"leadS": 0})).status == 201
            good.append((await whole.auth.sign_in("owner")).body["accessToken"])
            assert {(await whole.api(token).get("/v1/campaigns")).status for token in flood} == {401}
            ends = [await connect(gateway, token) for token in flood[:20]]
            assert {end.code for end in ends if isinstance(end, Closed)} == {4401}
            async with asyncio.timeout(30):
                while (await whole.api(good[-1]).get("/v1/campaigns")).status != 200:
                    pass
                while not isinstance(await connect(gateway, good[-1]), dict):
                    pass
            for token in good:
                assert (await whole.api(token).get("/v1/campaigns")).status == 200
                assert isinstance(await connect(gateway, token), dict)
        windows = (time.monotonic() - started) // 5 + 1

    assert len({tokens.peek(token).key_id for token in good}) == 3
    assert counted.asked <= 2 * (windows + 1)


async def test_signing_out_everywhere_ends_sockets_and_tokens_everywhere_and_only_the_users_own(
    stream: NatsServer, tmp_path: Path
) -> None:
    """T6: a new sign-in works at once everywhere."""
    async with running_whole(stream, tmp_path, gateways=2) as whole:
        owner, other = await whole.sign_up("owner"), await whole.sign_up("other")
        campaign = await whole.campaign(owner)
        async with (
            open_socket(whole.gateways[0].url) as here,
            open_socket(whole.gateways[1].url) as there,
            open_socket(whole.gateways[1].url) as others,
        ):
            for client in (here, there):
                await client.connect(owner.token, [f"campaign:{campaign}"])
            await others.connect(other.token)
            body = {"refreshToken": owner.refresh_token, "everywhere": True}
            assert (await whole.auth.call("POST", "/auth/sign-out", body)).status == 204
            refused = await whole.api(owner.token).get(f"/v1/campaigns/{campaign}")
            ends = [(await client.closed()).code for client in (here, there)]
            again = [await connect(gateway, owner.token) for gateway in whole.gateways]
            assert (await others.ask("ping"))["success"]

        assert refused.error == (401, "token_invalid")
        assert ends == [4401, 4401]
        assert [end.code for end in again if isinstance(end, Closed)] == [4401, 4401]
        assert (await whole.auth.call("GET", "/auth/me", token=owner.token)).status == 401
        assert (await whole.auth.call("POST", "/auth/refresh", {"refreshToken": owner.refresh_token})).status == 401
        back = (await whole.auth.sign_in("owner")).body["accessToken"]
        assert (await whole.api(back).get(f"/v1/campaigns/{campaign}")).status == 200
        assert isinstance(await connect(whole.gateways[0], back, f"campaign:{campaign}"), dict)

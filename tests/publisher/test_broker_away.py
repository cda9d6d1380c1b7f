"""While the broker is away, the publisher asks auth over HTTP, so reads and writes go on."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import Auth as AsksAuth
from beaconfire_kit.authorization import AuthorizeRequest, BrokerUnavailable, GrantRequest, offer
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.roles import Role
from beaconfire_kit.tokens import Claims
from tests.auth.conftest import Auth, running_auth
from tests.conftest import At, connected
from tests.proxy import Proxy
from tests.publisher.conftest import PATIENCE_S, Api, Heard, Publisher, publisher_settings, publishing

HURTS = {"frozen": NatsServer.freeze, "killed": NatsServer.kill}
KEY = {"Idempotency_Key": "0b9c7a52"}
HEAL = {"frozen": NatsServer.thaw, "killed": NatsServer.start}


@pytest.mark.parametrize("how", HURTS)
async def test_members_read_and_editors_write_with_pending_events_while_the_broker_is_away(
    publisher: Publisher, stream: NatsServer, how: str
) -> None:
    await asyncio.to_thread(HURTS[how], stream)
    read = await publisher.viewer.get(publisher.campaign)
    listed = await publisher.viewer.get("/v1/campaigns")
    written = await publisher.editor.post(f"{publisher.campaign}/settlements", {"name": "Emberford"})
    by_viewer = await publisher.viewer.post(f"{publisher.campaign}/settlements", {"name": "Emberford"})
    by_stranger = await publisher.stranger.get(publisher.campaign)
    by_nobody = await publisher.nobody.get(publisher.campaign)
    founded = [await publisher.owner.post("/v1/campaigns", {"name": "Another"}, **KEY) for _ in range(2)]
    await asyncio.to_thread(HEAL[how], stream)
    event = await publisher.heard.event()
    later = await until_founded(publisher.owner, "Another")

    assert (read.status, listed.status, written.status) == (200, 200, 201), (read, listed, written)
    assert [one["id"] for one in listed.body["campaigns"]] == [publisher.campaign_id]
    assert "X-Beaconfire-Pending" in written.headers
    assert by_viewer.error == by_stranger.error == (403, "forbidden")
    assert by_nobody.error == (401, "token_invalid")
    for one in founded:
        assert one.error == (503, "broker_unavailable")
        assert one.headers["Retry-After"] == "1"
        assert "message broker does not answer" in one.message
    assert isinstance(event.payload, SettlementUpdated)
    assert later == ["Another", "The Vale"]


async def until_founded(owner: Api, name: str) -> list[str]:
    """Repeat the creation of a campaign under its key, and again when it is done. Return the owner's campaigns."""
    async with asyncio.timeout(PATIENCE_S):
        while (made := await owner.post("/v1/campaigns", {"name": name}, **KEY)).status == 503:
            pass
    repeated = await owner.post("/v1/campaigns", {"name": name}, **KEY)
    assert (made.status, repeated.status) == (201, 201), (made, repeated)
    assert repeated.body["campaign"]["id"] == made.body["campaign"]["id"]
    return sorted(one["name"] for one in (await owner.get("/v1/campaigns")).body["campaigns"])


async def test_new_user_creates_one_campaign_with_one_key_when_a_broker_that_swallowed_bytes_is_back(
    stream: NatsServer, auth: Auth, heard: Heard, tmp_path: Path
) -> None:
    """Every attempt is answered with when to try again."""
    async with Proxy(stream.port).running() as proxy:
        at = At(f"nats://127.0.0.1:{proxy.port}", stream.passwords)
        settings = publisher_settings(at, tmp_path, f"{auth.url}/.well-known/jwks.json")
        async with publishing(settings, heard) as bare:
            await bare.says("ready")
            proxy.swallow = lambda _chunk: True
            person = await auth.sign_up("newcomer")
            newcomer = Api(bare.http, bare.url, person.token, person.id)
            refused = [await newcomer.post("/v1/campaigns", {"name": "First"}, **KEY) for _ in range(2)]
            proxy.swallow = lambda _chunk: False
            proxy.cut()
            later = await until_founded(newcomer, "First")

    assert [one.error for one in refused] == [(503, "broker_unavailable")] * 2
    assert [one.headers["Retry-After"] for one in refused] == ["1", "1"]
    assert later == ["First"]


async def test_revoked_token_is_refused_while_the_broker_is_away(
    publisher: Publisher, auth: Auth, stream: NatsServer
) -> None:
    await asyncio.to_thread(stream.freeze)
    signed_in = (await auth.sign_in("viewer")).body
    out = {"refreshToken": signed_in["refreshToken"], "everywhere": True}
    async with asyncio.timeout(PATIENCE_S):  # tokens are as old as their second
        while (await auth.call("POST", "/auth/sign-out", out)).status == 204:
            if (answer := await publisher.viewer.get(publisher.campaign)).status != 200:
                break
            signed_in = (await auth.sign_in("viewer")).body
            out["refreshToken"] = signed_in["refreshToken"]

    assert answer.error == (401, "token_invalid")


async def test_caller_is_told_that_auth_does_not_answer_with_and_without_a_broker(
    stream: NatsServer, heard: Heard, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path) as auth:
        person = await auth.sign_up("owner")
        settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json")
        bare_at = publishing(settings, heard)
        bare = await bare_at.__aenter__()
        await bare.says("ready")
        owner = Api(bare.http, bare.url, person.token, person.id)
        assert (await owner.get("/v1/campaigns")).status == 200
    try:
        with_broker = await owner.get("/v1/campaigns")
        await asyncio.to_thread(stream.freeze)
        without = await owner.get("/v1/campaigns")
    finally:
        await asyncio.to_thread(stream.thaw)
        await bare_at.__aexit__(None, None, None)

    assert with_broker.error == without.error == (503, "unavailable")
    assert with_broker.message == without.message == "the authorization service does not answer, try again"


async def test_publisher_that_has_never_seen_the_broker_reads_and_writes(
    stream: NatsServer, auth: Auth, heard: Heard, tmp_path: Path
) -> None:
    person = await auth.sign_up("owner")
    await asyncio.to_thread(stream.kill)
    settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json")
    async with publishing(settings, heard) as bare:
        owner = Api(bare.http, bare.url, person.token, person.id)
        listed = await owner.get("/v1/campaigns")
        founded = await owner.post("/v1/campaigns", {"name": "First"}, **KEY)
        await asyncio.to_thread(stream.start)
        later = await until_founded(owner, "First")

    assert (listed.status, listed.body) == (200, {"campaigns": []})
    assert founded.error == (503, "broker_unavailable")
    assert later == ["First"]


async def test_service_token_is_checked_with_auth_while_the_broker_is_away(
    publisher: Publisher, auth: Auth, stream: NatsServer
) -> None:
    body = {"service": "weather", "publish": ["campaign.c9.>"], "expiresInS": 3_600}
    issued = (await auth.operate("POST", "service-tokens", body)).body
    service = Api(publisher.http, publisher.url, issued["token"])
    payload = {"scope": "campaign", "campaignId": "c9", "affectedFields": ["weather"]}
    event = {"type": "state_invalidated", "payload": payload}
    await asyncio.to_thread(stream.freeze)
    published = await service.post("/v1/events", event)
    await auth.operate("DELETE", f"service-tokens/{issued['serviceToken']['id']}")
    revoked = await service.post("/v1/events", event)

    assert (published.status, published.body["pending"]) == (201, True)
    assert revoked.error == (401, "token_invalid")


@asynccontextmanager
async def asking(server: NatsServer, auth: Auth) -> AsyncIterator[AsksAuth]:
    """Yield the client with which a service asks auth. It knows whether the broker answers."""
    async with connected(server, "publisher") as nc, aiohttp.ClientSession() as http:
        asks = AsksAuth(http, auth.url)
        asks.nc = nc
        watching = asyncio.create_task(asks.watch())
        try:
            yield asks
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def until_away(asks: AsksAuth, *, away: bool = True) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while asks.broker_is_away is not away:
            await asyncio.sleep(0.01)


async def test_publisher_does_not_wait_for_a_broker_that_is_known_to_be_away(stream: NatsServer, auth: Auth) -> None:
    """Once the broker answers, it is asked again."""
    person = await auth.sign_up("owner")
    claims = Claims(person.id, "", issued_at(person.token), 0, "")
    question = AuthorizeRequest(user_id=person.id, issued_at=claims.issued_at, rooms=(f"user:{person.id}",))
    async with asking(stream, auth) as asks:
        await asyncio.to_thread(stream.freeze)
        await until_away(asks)
        assert asks.nc is not None
        sent = asks.nc._pending_data_size
        offer(claims, person.token)
        answer = await asks.authorize(question)
        unsent = asks.nc._pending_data_size
        others = AuthorizeRequest(user_id="u2", issued_at=claims.issued_at, rooms=("user:u2",))
        with pytest.raises(BrokerUnavailable):
            await asks.authorize(others)
        with pytest.raises(BrokerUnavailable):
            await asks.grant(GrantRequest(root="campaign:c9", user_id=person.id, role=Role.OWNER))
        await asyncio.to_thread(stream.thaw)
        await until_away(asks, away=False)
        again = await asks.authorize(question)

    assert answer.rooms[f"user:{person.id}"].allowed
    assert again == answer
    assert unsent <= sent + len(b"PING\r\n") * 10


def issued_at(token: str) -> int:
    """The second in which a token was made."""
    body = token.split(".")[1]
    return int(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["iat"])


async def test_broker_that_swallows_bytes_counts_as_away(stream: NatsServer, auth: Auth) -> None:
    async with Proxy(stream.port).running() as proxy:
        at = At(f"nats://127.0.0.1:{proxy.port}", stream.passwords)
        async with connected(at, "publisher") as nc:
            asks = AsksAuth()
            asks.nc = nc
            proxy.swallow = lambda _chunk: True
            with pytest.raises(BrokerUnavailable):
                await asks.authorize(AuthorizeRequest(user_id="u1"))
            proxy.cut()

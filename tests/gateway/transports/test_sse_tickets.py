"""Tickets and cookies for a browser's own `EventSource`, on sockets of ours and on aiohttp's."""

import asyncio
from urllib.parse import urlsplit

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.sse_tickets import COOKIE_PREFIX, MAX_COOKIES
from beaconfire_kit.gateway_buckets import BUCKETS, SSE_TICKETS
from beaconfire_kit.key_value import KeyValue
from tests.conftest import connected
from tests.event_streams import WAIT_S, cookie_of, issue_ticket, open_stream, redeem_ticket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement

APP = "https://app.example"


@on_both_transports
async def test_ticket_opens_a_stream_once_and_its_cookie_opens_it_again(gateway: Gateway) -> None:
    """An `EventSource` repeats its address, with the cookie and the last id that it has."""
    token = gateway.auth.token("viewer")
    ticket = await issue_ticket(gateway.url, token, types=["settlement_updated"])
    async with redeem_ticket(gateway.url, ticket) as stream:
        await stream.ack()
        missed = [await gateway.publish(settlement(f"s{number}")) for number in range(3)]
        first = await stream.next("message")
        cookie = cookie_of(stream)
    async with redeem_ticket(gateway.url, ticket, cookie=cookie, headers={"Last-Event-ID": first.id}) as again:
        offsets = await again.offsets(2)
    async with redeem_ticket(gateway.url, ticket) as stolen:
        refusal = await stolen.answer.json()

    assert offsets == missed[1:]
    assert "Set-Cookie" not in again.answer.headers
    assert (stolen.answer.status, refusal["error"]["code"]) == (401, "token_invalid")


@on_both_transports
async def test_of_many_uses_of_a_ticket_at_the_same_moment_one_is_accepted(stream: NatsServer, auth: FakeAuth) -> None:
    """At two gateways."""
    async with running_gateway(stream, auth) as one, running_gateway(stream, auth) as other:
        ticket = await issue_ticket(one.url, auth.token("viewer"))

        async def use(gateway: Gateway) -> int:
            async with redeem_ticket(gateway.url, ticket) as client:
                return client.answer.status

        statuses = await asyncio.gather(*(use(gateway) for gateway in (one, other) * 5))

    assert sorted(statuses) == [200, *[401] * 9]


async def test_cookie_that_is_no_text_is_refused_as_any_other_wrong_one(gateway: Gateway) -> None:
    ticket = await issue_ticket(gateway.url, gateway.auth.token("viewer"))
    async with redeem_ticket(gateway.url, ticket) as client:
        name = cookie_of(client).partition("=")[0]
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"GET /sse/stream?ticket={ticket} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {name}="
    writer.write(head.encode() + b"\xff\r\n\r\n")
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_cookie_opens_the_stream_at_another_gateway(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth) as other:
        async with running_gateway(stream, auth) as gateway:
            ticket = await issue_ticket(gateway.url, auth.token("viewer"))
            async with redeem_ticket(gateway.url, ticket) as client:
                last = await client.next("connection.ack")
                cookie = cookie_of(client)
        missed = await other.publish(settlement())
        async with redeem_ticket(other.url, ticket, cookie=cookie, headers={"Last-Event-ID": last.id}) as client:
            offsets = await client.offsets(1)

    assert offsets == [missed]


async def test_cookie_ends_with_the_token(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth) as gateway:
        ticket = await issue_ticket(gateway.url, auth.token("viewer", ttl_s=2))
        async with redeem_ticket(gateway.url, ticket) as client:
            attributes = client.answer.headers["Set-Cookie"]
            await client.next("close")
        async with asyncio.timeout(WAIT_S):
            while await records(stream):
                await asyncio.sleep(0.05)
        refused = await status(gateway, ticket, cookie_of(client))

    assert "Max-Age=1" in attributes
    assert refused == 401


async def test_old_ticket_is_refused(stream: NatsServer, auth: FakeAuth) -> None:
    """The broker forgets it after 30 s. Here its record is removed at once."""
    async with running_gateway(stream, auth) as gateway:
        ticket = await issue_ticket(gateway.url, auth.token("viewer"))
        headers = await record_headers(stream)
        async with connected(stream, "setup") as nc:
            await nc.jetstream().purge_stream(BUCKETS[SSE_TICKETS].stream)
        refused = await status(gateway, ticket)

    assert headers["Nats-TTL"] == "30s"
    assert refused == 401


@pytest.mark.parametrize(
    ("origin", "attributes"),
    [
        ("", "; HttpOnly; SameSite=Strict"),
        (APP, "; HttpOnly; SameSite=None; Partitioned; Secure"),
        ("http://app.example:3000", "; HttpOnly; SameSite=Lax"),
    ],
    ids=["no browser", "another origin with TLS", "another origin without TLS"],
)
async def test_cookie_suits_the_page_that_asked_for_the_ticket(
    stream: NatsServer, auth: FakeAuth, origin: str, attributes: str
) -> None:
    async with running_gateway(stream, auth, allowed_origins=f"{APP},http://app.example:3000") as gateway:
        ticket = await issue_ticket(gateway.url, auth.token("viewer"), origin=origin)
        async with redeem_ticket(gateway.url, ticket, headers={"Origin": origin} if origin else {}) as client:
            cookie = client.answer.headers["Set-Cookie"]
        async with redeem_ticket(gateway.url, ticket, headers={"Origin": "https://evil.example"}) as foreign:
            pass

    assert cookie.endswith(attributes)
    assert "Path" not in cookie  # so it goes to this folder only, behind any prefix of a proxy
    assert foreign.answer.status == 403


async def test_cookie_of_the_gateways_own_page_is_strict(gateway: Gateway) -> None:
    ticket = await issue_ticket(gateway.url, gateway.auth.token("viewer"), origin=gateway.url)
    async with redeem_ticket(gateway.url, ticket) as client:
        cookie = client.answer.headers["Set-Cookie"]

    assert cookie.endswith("; HttpOnly; SameSite=Strict")


@on_both_transports
async def test_oldest_cookies_are_removed_before_there_are_too_many(gateway: Gateway) -> None:
    ticket = await issue_ticket(gateway.url, gateway.auth.token("viewer"))
    old = [f"{COOKIE_PREFIX}{number:012}" for number in range(MAX_COOKIES + 1)]
    async with redeem_ticket(gateway.url, ticket, cookie="; ".join(f"{name}=x" for name in old)) as client:
        new, *removed = client.answer.headers.getall("Set-Cookie")

    assert new.startswith(COOKIE_PREFIX)
    assert [one.partition("=")[0] for one in removed] == old[:2]
    assert all("Max-Age=0" in one for one in removed)


@pytest.mark.parametrize(
    ("user", "body", "status_", "code"),
    [
        ("", {"rooms": ["campaign:c1"]}, 401, "token_invalid"),
        ("revoked", {"rooms": ["campaign:c1"]}, 401, "token_invalid"),
        ("viewer", {"rooms": "campaign:c1"}, 400, "bad_request"),
        ("viewer", {"rooms": [], "types": {"campaign:c1": ["x"]}}, 400, "bad_request"),
        ("viewer", {"rooms": ["campaign:c1"], "token": "x"}, 400, "bad_request"),
    ],
    ids=["no token", "revoked", "no list", "types of another room", "unknown field"],
)
async def test_request_for_a_ticket_is_refused_as_a_stream_would_be(
    gateway: Gateway, user: str, body: dict[str, object], status_: int, code: str
) -> None:
    gateway.auth.revoked.add("revoked")
    headers = {"Authorization": f"Bearer {gateway.auth.token(user)}"} if user else {}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{gateway.url}/sse/tickets", json=body) as answer,
    ):
        refusal = await answer.json()

    assert (answer.status, refusal["error"]["code"]) == (status_, code)


async def test_invalid_tokens_and_requests_for_tickets_are_limited(stream: NatsServer, auth: FakeAuth) -> None:
    limits = {"attempts_per_minute_address": 2, "messages_per_minute_per_user": 35}
    async with running_gateway(stream, auth, **limits) as gateway, aiohttp.ClientSession() as http:

        async def ask(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            body = {"rooms": ["campaign:c1"]}
            async with http.post(f"{gateway.url}/sse/tickets", json=body, headers=headers) as answer:
                return answer.status

        invalid = [await ask("nonsense") for _ in range(3)]
        valid = [await ask(auth.token("viewer")) for _ in range(4)]

    assert invalid == [401, 401, 429]
    assert valid == [201, 201, 201, 429]


async def test_ticket_holds_a_hundred_long_rooms_and_no_more_than_a_record_takes(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    rooms = ["campaign:c1", *(f"campaign:c1/settlement:{'s' * 60}{number:02}" for number in range(99))]
    ticket = await issue_ticket(gateway.url, token, rooms=rooms)
    async with redeem_ticket(gateway.url, ticket) as client:
        joined = (await client.ack())["rooms"]
    types = {room: [f"{'t' * 100}{number}" for number in range(5)] for room in rooms}
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{gateway.url}/sse/tickets", json={"rooms": rooms, "types": types}) as refused,
    ):
        pass

    assert len([room for room in joined.values() if room["success"]]) == 100
    assert refused.status == 413


@on_both_transports
async def test_error_that_will_pass_lets_an_event_source_connect_again(stream: NatsServer, auth: FakeAuth) -> None:
    """After any other answer than 200, an `EventSource` never tries again. The next attempt needs the cookie."""
    async with running_gateway(stream, auth, max_sessions_per_user=1) as gateway:
        ticket = await issue_ticket(gateway.url, auth.token("viewer"))
        async with open_stream(gateway.url, auth.token("viewer")) as other:
            await other.ack()
            async with redeem_ticket(gateway.url, ticket) as refused:
                close = await refused.next("close")
                await refused.ended()
        async with redeem_ticket(gateway.url, ticket, cookie=cookie_of(refused)) as again:
            ack = await again.ack()

    assert (refused.answer.status, close.json["code"]) == (200, 4429)
    assert refused.parser.retry_ms is not None
    assert ack["userId"] == "viewer"


async def test_missing_bucket_takes_away_tickets_alone(stream: NatsServer, auth: FakeAuth) -> None:
    async with connected(stream, "setup") as nc:
        await nc.jetstream().delete_stream(BUCKETS[SSE_TICKETS].stream)
    headers = {"Authorization": f"Bearer {auth.token('viewer')}"}
    async with running_gateway(stream, auth) as gateway, aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{gateway.url}/sse/tickets", json={"rooms": ["campaign:c1"]}) as answer:
            refusal = await answer.json()
        async with redeem_ticket(gateway.url, "x" * 32) as client:
            close = await client.next("close")
        async with open_stream(gateway.url, auth.token("viewer")) as other:
            ack = await other.ack()

    assert answer.status == 503
    assert "beaconfire setup" in refusal["error"]["message"]
    assert close.json["code"] == 4503
    assert ack["userId"] == "viewer"


async def test_neither_bucket_nor_log_has_a_token_a_ticket_or_a_cookie(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    token = gateway.auth.token("viewer")
    ticket = await issue_ticket(gateway.url, token)
    async with redeem_ticket(gateway.url, ticket) as client:
        await client.ack()
        cookie = cookie_of(client).partition("=")[2]
    await status(gateway, ticket, "beaconfire_sse_x=y")
    kept = "".join(await records(gateway.server))
    written = "".join(capsys.readouterr()) + await gateway.metrics()

    assert "connected" in written
    for secret in (token, ticket, cookie):
        assert secret not in kept
        assert secret not in written


async def status(gateway: Gateway, ticket: str, cookie: str = "") -> int:
    async with redeem_ticket(gateway.url, ticket, cookie=cookie) as client:
        return client.answer.status


async def records(server: NatsServer) -> list[str]:
    """The values in the bucket, and their keys."""
    async with connected(server, "setup") as nc:
        bucket = KeyValue(nc, SSE_TICKETS)
        found = [(key, await bucket.last(key)) for key in await bucket.keys("*")]
    return [f"{key} {entry.value.decode()}" for key, entry in found if entry is not None]


async def record_headers(server: NatsServer) -> dict[str, str]:
    """The headers of the last write into the bucket."""
    async with connected(server, "setup") as nc:
        message = await nc.jetstream().get_msg(BUCKETS[SSE_TICKETS].stream, subject=f"$KV.{SSE_TICKETS}.*")
    return message.headers or {}

"""T1, T2 and T17: whose pages may open a socket, and requests that a proxy may read differently."""

import base64
import gzip

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.web import MAX_BODY_BYTES
from tests.client import Closed, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway
from tests.security.conftest import Target, rss_bytes
from tests.security.raw_http import exchange, statuses
from tests.websocket import handshake, status_of

ALLOWED = "https://app.example.org"
FOREIGN = [
    "null",
    "NULL",
    "https://evil.example",
    "https://app.example.org.evil.example",
    "https://evil-app.example.org",
    "https://sub.app.example.org",
    "https://evilapp.example.org",
    "https://app.example.org:444",
    "https://app.example.org:443",
    "http://app.example.org",
    "https://APP.EXAMPLE.ORG",
    "HTTPS://app.example.org",
    "https://app.example.org/",
    "https://app.example.org/path",
    "https://app.example.org@evil.example",
    "https://evil.example#https://app.example.org",
    "https://app.example.org https://evil.example",
    "https://app.example.org, https://evil.example",
    "https://app.example.org.",
    "app.example.org",
    "//app.example.org",
    "file://",
    "*",
    "",
]


async def test_only_configured_and_own_origins_may_open_a_socket(stream: NatsServer, auth: FakeAuth) -> None:
    """T1: any other origin gets 403 before the upgrade, however similar it looks.

    So does a request with two origins.
    """
    async with running_gateway(stream, auth, allowed_origins=ALLOWED) as gateway:
        refused = {
            origin: await status_of(gateway.url, handshake(gateway.url, Origin=origin))
            for origin in [*FOREIGN, f"{ALLOWED}\r\nOrigin: {ALLOWED}", f"{ALLOWED}\r\nOrigin: https://evil.example"]
        }
        forged_host = await status_of(
            gateway.url, handshake(gateway.url, Host="evil.example\r\nHost: x", Origin="http://evil.example")
        )
        taken = [
            await status_of(gateway.url, handshake(gateway.url, Origin=origin)) for origin in (ALLOWED, gateway.url)
        ]

    assert {origin: status for origin, status in refused.items() if status != 403} == {}
    assert forged_host == 400
    assert taken == [101, 101]


async def test_socket_without_origin_needs_a_token_and_cookies_count_for_nothing(target: Target) -> None:
    """T2: no page can use another user's cookie."""
    cookie = {"Cookie": f"token={target.owner.token}; Authorization=Bearer {target.owner.token}"}
    bearer = {"Authorization": f"Bearer {target.owner.token}"}
    codes = []
    for headers in ({}, cookie):
        async with open_socket(target.gateway.url, headers=headers) as client:
            with pytest.raises(Closed) as end:
                await client.ask("connect", rooms=[target.room])
            codes.append(end.value.code)
    async with open_socket(target.gateway.url, headers=bearer) as client:
        ack = await client.ask("connect", rooms=[target.room])

    assert codes == [4401, 4401]
    assert ack["rooms"] == {target.room: {"success": True}}


HOST = b"Host: x\r\n"
AMBIGUOUS = {
    "TE and CL": (b"POST", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"),
    "CL and TE": (b"POST", b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX"),
    "two encodings": (b"POST", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    "an unknown encoding": (b"POST", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "a space before the colon": (b"POST", b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "two lengths": (b"POST", b"Content-Length: 6\r\nContent-Length: 5\r\n\r\n{}{}{}"),
    "a signed length": (b"POST", b"Content-Length: +6\r\n\r\n{}{}{}"),
    "a negative length": (b"POST", b"Content-Length: -6\r\n\r\n{}{}{}"),
    "a hexadecimal length": (b"POST", b"Content-Length: 0x6\r\n\r\n{}{}{}"),
    "a negative chunk": (b"POST", b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"),
    "two hosts": (b"GET", HOST + b"\r\n"),
    "a folded header": (b"GET", b"X: a\r\n b\r\n\r\n"),
    "a NUL in a header": (b"GET", b"X: a\0b\r\n\r\n"),
    "a header of 9 KB": (b"GET", b"X: " + b"a" * 9_000 + b"\r\n\r\n"),
    "300 headers": (b"GET", b"".join(b"X%d: a\r\n" % number for number in range(300)) + b"\r\n"),
}
REQUEST_LINES = {
    "another host in the target": b"GET http://evil.example%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "our own host in the target": b"GET http://x%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n",
    "no host": b"GET %s HTTP/1.1\r\n\r\n",
    "lines that end with LF": b"GET %s HTTP/1.1\nHost: x\n\n",
    "an unknown version": b"GET %s HTTP/9.9\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET %s x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target of 9 KB": b"GET %s" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"SMUGGLE %s HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("service", ["auth", "publisher", "gateway"])
async def test_request_that_can_be_read_in_two_ways_gets_400_and_ends_the_connection(
    target: Target, service: str
) -> None:
    """T17: every service refuses it, and nothing behind it is served."""
    at = {one.name.partition("-")[0]: one for one in target.services.services}[service]
    path = {"auth": b"/auth/sign-in", "publisher": b"/v1/campaigns", "gateway": b"/ws"}[service]
    requests = {
        name: b"%s %s HTTP/1.1\r\n%s%s" % (method, path, HOST, rest) for name, (method, rest) in AMBIGUOUS.items()
    } | {name: line % path for name, line in REQUEST_LINES.items()}
    answers = {name: await statuses(at.url, request) for name, request in requests.items()}

    assert {name: answer for name, answer in answers.items() if answer != [400]} == {}
    assert at.process.is_running


@pytest.mark.parametrize("service", ["auth", "publisher"])
async def test_body_that_contradicts_its_headers_gets_400_or_413(target: Target, service: str) -> None:
    """T17: it is the caller's fault, and costs no memory."""
    at = {"auth": target.services.auth, "publisher": target.services.publisher}[service]
    path = b"/auth/sign-in" if service == "auth" else b"/v1/campaigns"
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
    head %= (path, target.owner.token.encode())
    bomb = gzip.compress(b" " * 40_000_000)
    assert len(bomb) < MAX_BODY_BYTES
    before = rss_bytes(at)
    bodies = [
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb,
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n",
        b"Content-Length: 70000\r\n\r\n" + b" " * 70_000,
    ]
    answers = [(await exchange(at.url, head + body))[9:12] for body in bodies]

    assert answers == [b"400", b"413", b"400", b"413"]
    assert rss_bytes(at) - before < 10 * 1024 * 1024


@pytest.mark.parametrize(
    "key", ["", "short", base64.b64encode(b"x" * 15).decode(), base64.b64encode(b"x" * 17).decode(), "=" * 24]
)
async def test_handshake_with_an_invalid_key_is_refused(target: Target, key: str) -> None:
    """T17: a key has sixteen bytes."""
    request = handshake(target.gateway.url, Sec_WebSocket_Key=key)

    assert (await statuses(target.gateway.url, request))[0] == 400

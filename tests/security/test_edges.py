"""Every route of every service answers other methods, offers to upgrade, and browsers safely."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_demo.settings import PageSettings
from beaconfire_demo.site import write_site
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.routers import METHODS, Application, running
from tests.security.conftest import PASSWORD, Target
from tests.security.raw_http import exchange, statuses
from tests.websocket import client_frame, connection, handshake

JAVA = (
    "Connection: Upgrade, HTTP2-Settings\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    "Upgrade: h2c\r\n"
)
"""The headers that `java.net.http.HttpClient` adds to a request over plain HTTP. `curl --http2` sends them in other
order."""
CACHED = dict.fromkeys(("/", "/index.html", "/page/x1"), "no-cache") | {"/sse/stream": "no-store, no-transform"}
PUBLIC = {"/.well-known/jwks.json"}


@pytest.fixture(name="applications")
async def _applications() -> AsyncIterator[list[Application]]:
    async with running() as found:
        yield found


def calls(applications: Iterable[Application]) -> Iterator[tuple[Application, str, str]]:
    """Each method of each path of each application, but for HEAD, which has no body to look at."""
    for application in applications:
        for path, methods in application.routes():
            for method in sorted(methods - {"HEAD"}):
                yield application, method, path


def request(method: str, path: str, headers: str = "", body: bytes = b"") -> bytes:
    """A request with a body of a known length, none where it is empty."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}{length}\r\n".encode() + body


def chunked(method: str, path: str, headers: str, body: bytes) -> bytes:
    """The same request with its body in chunks."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


async def answer_to(url: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the only answer."""
    said = await exchange(url, sent)
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


async def test_wrong_method_gets_405_with_allow_on_every_route(applications: list[Application]) -> None:
    wrong = []
    for application in applications:
        for path, methods in application.routes():
            for method in set(METHODS) - methods:
                status, headers, body = await answer_to(application.url, request(method, path, "Connection: close\r\n"))
                told = json.loads(body)["error"]["code"] if body else "no body"
                expected = (405, ", ".join(sorted(methods)), "no body" if method == "HEAD" else "method_not_allowed")
                if (status, headers.get("allow"), told) != expected:
                    wrong.append((application.name, method, path, status, headers.get("allow"), told))

    assert wrong == []
    assert sum(1 for application in applications for _ in application.routes()) > 60


async def test_every_answer_has_nosniff_and_only_page_files_and_public_keys_may_be_cached(
    applications: list[Application],
) -> None:
    wrong = []
    for application in applications:
        sent = {
            f"{method} {path}": request(method, path, "Connection: close\r\n")
            for path, methods in application.routes()
            for method in methods
        } | {
            "an unknown path": request("GET", "/nowhere", "Connection: close\r\n"),
            "a preflight": request(
                "OPTIONS", "/healthz", "Connection: close\r\nOrigin: http://x\r\nAccess-Control-Request-Method: GET\r\n"
            ),
            "another method": request("DELETE", "/healthz", "Connection: close\r\n"),
            "another host": request("GET", "http://evil.example/", "Connection: close\r\n"),
            "an expectation": request("GET", "/healthz", "Connection: close\r\nExpect: wonders\r\n"),
            "not HTTP": b"nonsense\r\n\r\n",
        }
        for name, data in sent.items():
            status, headers, _ = await answer_to(application.url, data)
            path = name.partition(" ")[2]
            caching = CACHED.get(path, "no-store") if status == 200 else "no-store"
            if path in PUBLIC and status == 200:
                caching = "public, max-age=60"
            if (headers.get("x-content-type-options"), headers.get("cache-control")) != ("nosniff", caching):
                wrong.append((application.name, name, status, headers))

    assert wrong == []


async def test_answers_with_tokens_or_members_data_forbid_caching_on_every_route(
    target: Target, applications: list[Application]
) -> None:
    signed_in = {"email": target.owner.email, "password": PASSWORD}
    urls = {"auth": target.services.auth_url, "publisher": target.services.publisher_url}
    paths = [
        (application.name, re.sub(r"(campaigns|/roots)/x1", rf"\1/{id_}", path))
        for application in applications
        if application.name in urls
        for path, methods in application.routes()
        if "GET" in methods and path not in PUBLIC
        for id_ in [target.campaign if "campaigns" in path else f"campaign:{target.campaign}"]
    ]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {target.owner.token}"}) as http:
        found = {}
        for service, path in paths:
            async with http.get(urls[service] + path) as answer:
                found[f"GET {path}"] = answer.status, answer.headers["Cache-Control"]
        async with http.post(f"{urls['auth']}/auth/sign-in", json=signed_in) as answer:
            found["sign in"], refresh = (answer.status, answer.headers["Cache-Control"]), (await answer.json())
        async with http.post(f"{urls['auth']}/auth/refresh", json={"refreshToken": refresh["refreshToken"]}) as answer:
            found["refresh"] = answer.status, answer.headers["Cache-Control"]

    assert {name: told for name, told in found.items() if told[1] != "no-store"} == {}
    assert sum(status == 200 for status, _ in found.values()) >= 12


async def test_offer_of_h2c_is_ignored_on_every_route_and_the_connection_goes_on(
    applications: list[Application],
) -> None:
    """Java's HttpClient and `curl --http2` send such offers."""
    wrong = []
    for application, method, path in calls(applications):
        plain = await statuses(application.url, request(method, path, body=b"{}"))
        for name, sent in {
            "no body": request(method, path, JAVA),
            "a body": request(method, path, JAVA, b"{}"),
            "an empty body": request(method, path, JAVA + "Content-Length: 0\r\n"),
            "chunks": chunked(method, path, JAVA, b"{}\n"),
            "capitals": request(method, path, JAVA.upper(), b"{}"),
            "a long length": request(method, path, f"{JAVA}Content-Length: {'0' * 5_000}2\r\n") + b"{}",
            "two offers": request(method, path, "Upgrade: TLS/1.0\r\n" + JAVA, b"{}"),
            "HTTP/1.0": request(method, path, f"{JAVA}Connection: keep-alive\r\n", b"{}").replace(b"/1.1", b"/1.0", 1),
        }.items():
            found = await statuses(application.url, sent)
            if found != plain or plain[-1] != 200:
                wrong.append((application.name, method, path, name, plain, found))

    assert wrong == []


async def test_offer_to_upgrade_that_arrives_byte_by_byte_is_ignored(applications: list[Application]) -> None:
    """The body of the request and the next request are read completely."""
    auth = next(one for one in applications if one.name == "auth")
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    sent = [
        request("POST", "/auth/refresh", JAVA, b"{\r\n\r\n}"),
        chunked("POST", "/auth/refresh", JAVA, b"{\r\n\r\n\n\n}"),
        b"\r\n\r\n" + request("GET", "/healthz", JAVA) + b"\r\n",
    ]
    found = [
        re.findall(rb"HTTP/1\.1 (\d{3}) ", await exchange(auth.url, *(bytes([byte]) for byte in one + last)))
        for one in sent
    ]

    assert found == [[b"400", b"200"], [b"400", b"200"], [b"200", b"200"]]


async def test_client_that_sends_blank_lines_behind_an_offer_to_upgrade_is_dropped(
    applications: list[Application],
) -> None:
    """Each is a call of the parser, so a single connection could block the service for all other clients."""
    lines = b"\r\n" * 500_000
    endless = {
        "behind the request": request("GET", "/healthz", JAVA),
        "in a chunk": request("POST", "/auth/refresh", f"{JAVA}Transfer-Encoding: chunked\r\n") + b"fffffff\r\n",
    }
    answers = [
        await exchange(application.url, start, *[lines] * 40)
        for application in applications
        for start in endless.values()
    ]

    assert all(answer.count(b"HTTP/1.") <= 1 for answer in answers)


async def test_bytes_behind_a_refused_websocket_are_not_served_as_a_request(applications: list[Application]) -> None:
    """On any route, with any method: the connection is closed."""
    offers = (
        "websocket",
        "WebSocket",
        "h2c, websocket",
        "h2c\r\nUpgrade: websocket",
        "websocket\r\nUpgrade: websocket",
    )
    found = {
        (application.name, method, path, offer, body): await statuses(
            application.url, request(method, path, f"Upgrade: {offer}\r\nConnection: Upgrade\r\n", body)
        )
        for application, method, path in calls(applications)
        for offer in offers
        for body in (b"", b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    }

    assert {call: answers for call, answers in found.items() if len(answers) != 1} == {}


@pytest.mark.parametrize(
    "change",
    [
        {"drop": "Sec-WebSocket-Key"},
        {"Sec_WebSocket_Protocol": "graphql-ws"},
        {"Origin": "https://evil.example"},
        {"Sec_WebSocket_Version": "8"},
        {"Content_Length": "2"},
        {"Transfer_Encoding": "chunked"},
    ],
    ids=["no key", "unknown subprotocol", "origin", "version", "a body", "chunks"],
)
async def test_bytes_behind_a_refused_handshake_are_not_served_as_a_request(
    gateway: Gateway, change: dict[str, str]
) -> None:
    """There is one answer, whatever the reason, and then the connection is closed."""
    body = b"0\r\n\r\n" if "Transfer_Encoding" in change else b"{}" if "Content_Length" in change else b""
    found = await statuses(gateway.url, handshake(gateway.url, **change) + body)

    assert len(found) == 1
    assert found[0] in (400, 403)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "GET"])
async def test_handshake_with_another_method_than_get_gets_405(gateway: Gateway, method: str) -> None:
    sent = handshake(gateway.url).replace(b"GET ", method.encode() + b" ", 1)
    status, headers, _ = await answer_to(gateway.url, sent)

    assert (status, headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("transport", ["handover", "aiohttp"])
async def test_handshake_with_an_empty_body_is_accepted(stream: NatsServer, auth: FakeAuth, transport: str) -> None:
    """A handshake with `Content-Length: 0` has no body. A message sent at once is answered."""
    hello = json.dumps({"type": "connect", "id": 1, "token": auth.token("owner")}).encode()
    async with running_gateway(stream, auth, transport=transport) as gateway, connection(gateway.url) as raw:
        raw.write(handshake(gateway.url, Content_Length="0") + client_frame(hello))
        async with asyncio.timeout(10):
            head = await raw.reader.readuntil(b"\r\n\r\n")
        _, payload = await raw.frame()

    assert head.startswith(b"HTTP/1.1 101 ")
    assert json.loads(payload)["type"] == "connection.ack"


async def test_curl_http2_with_a_body_is_answered_twice_on_one_connection(applications: list[Application]) -> None:
    auth = next(one for one in applications if one.name == "auth")
    url = f"{auth.url}/auth/refresh"
    said = "%{http_version} %{http_code} %{num_connects}\n"
    command = ["curl", "--http2", "--silent", "--max-time", "20", "--data", "{}", "--write-out", said, url, url]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)

    assert re.findall(r"^.*(1\.1 400 \d)$", ran.stdout, re.MULTILINE) == ["1.1 400 1", "1.1 400 0"]


async def test_page_policy_allows_only_the_configured_addresses(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    write_site(tmp_path, PageSettings())
    async with running_gateway(stream, auth, static_dir=tmp_path) as gateway:
        status, headers, _ = await answer_to(gateway.url, request("GET", "/", "Connection: close\r\n"))
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))

    assert status == 200
    assert rules["connect-src"] == "'self'"
    assert {rules[name] for name in ("object-src", "base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert rules["default-src"] == "'self'"

"""beaconfire_kit.web and beaconfire_kit.serving: what every service's HTTP does, over real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from beaconfire_kit import serving
from beaconfire_kit import web as our_web
from beaconfire_kit.serving import Listening, listening, worker_listening
from beaconfire_kit.settings import Settings
from beaconfire_kit.web import application, json_answer, read_body, worker_application


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    level: int


@pytest.fixture(name="at")
async def _at(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listening]:
    """A service with one good and one broken handler, and short deadlines."""
    monkeypatch.setattr(serving, "IDLE_S", 1.0)
    monkeypatch.setattr(our_web, "BODY_TIMEOUT_S", 1.0)
    settings = Settings(allowed_origins="https://app.example")  # type: ignore[arg-type]
    app = application(settings, ready=lambda: "not yet")

    async def echo(request: web.Request) -> web.Response:
        return json_answer((await read_body(request, Body)).model_dump())

    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("the secret is xyzzy")

    app.router.add_post("/echo", echo)
    app.router.add_get("/broken", broken)
    async with listening(app, settings, name="test") as at:
        yield at


async def raw(at: Listening, *chunks: bytes, ops: bool = False) -> bytes:
    """Send bytes, and read until the service ends the connection."""
    parts = urlsplit(at.ops_url if ops else at.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        async with asyncio.timeout(15):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /broken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"OPTIONS /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /?token=hush HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["good", "no such path", "our fault", "method", "options", "version", "TLS", "long header", "two lengths"],
)
async def test_no_banner(at: Listening, request_: bytes) -> None:
    """No answer says which software gives it, and what is no HTTP is answered in our words."""
    answer = (await raw(at, request_)).lower()
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith(b"http/1.")
    assert b"server:" not in head
    assert not re.search(rb"aiohttp|python|traceback|\.py|xyzzy|hush", answer)
    assert body.startswith(b"{") or head.startswith(b"http/1.1 204")


async def test_our_fault(at: Listening) -> None:
    """What we did wrong reaches the caller as an id to quote, never as a stack trace."""
    async with aiohttp.ClientSession() as http, http.get(f"{at.url}/broken") as answer:
        text, correlation_id = await answer.text(), answer.headers["X-Correlation-Id"]

    assert answer.status == 500
    assert "xyzzy" not in text
    assert "Traceback" not in text
    assert correlation_id in text


@pytest.mark.parametrize(
    ("given", "taken"),
    [("req-7", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("ü", False), ("", False)],
)
async def test_correlation_id(at: Listening, given: str, taken: bool) -> None:
    """A caller's correlation id is repeated if it is a plain one; else there is a new one."""
    headers = {"X-Correlation-Id": given}
    async with aiohttp.ClientSession() as http, http.get(f"{at.url}/healthz", headers=headers) as answer:
        echoed = answer.headers["X-Correlation-Id"]

    assert (echoed == given) is taken
    assert echoed


async def test_health(at: Listening) -> None:
    """Alive and ready are two questions; figures are on the operations port alone."""
    async with aiohttp.ClientSession() as http:
        statuses = [
            (await http.get(url)).status
            for url in (
                f"{at.url}/healthz",
                f"{at.url}/readyz",
                f"{at.ops_url}/readyz",
                f"{at.ops_url}/metrics",
                f"{at.url}/metrics",
            )
        ]

    assert statuses == [200, 503, 503, 200, 404]


async def test_errors_are_json(at: Listening) -> None:
    """Unknown paths and methods are answered in the one error shape."""
    async with aiohttp.ClientSession() as http:
        missing, wrong = await http.get(f"{at.url}/nowhere"), await http.delete(f"{at.url}/echo")
        bodies = [await missing.json(), await wrong.json()]

    assert [(missing.status, wrong.status)] == [(404, 405)]
    assert [body["error"]["code"] for body in bodies] == ["not_found", "method_not_allowed"]


async def test_preflight(at: Listening) -> None:
    """A browser of an allowed origin may send what it asks for; one of another may not."""
    ask = {"Access-Control-Request-Method": "PATCH"}
    async with aiohttp.ClientSession() as http:
        allowed = await http.options(f"{at.url}/echo", headers={"Origin": "https://app.example", **ask})
        foreign = await http.options(f"{at.url}/echo", headers={"Origin": "https://evil.example", **ask})

    assert "PATCH" in allowed.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Origin" not in foreign.headers


@pytest.mark.parametrize("ops", [False, True], ids=["public port", "operations port"])
@pytest.mark.parametrize(
    "chunk", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["silent", "half a line", "half a head"]
)
async def test_slow_heads(at: Listening, chunk: bytes, ops: bool) -> None:
    """A connection that does not send a whole request head in time is closed (slowloris), on every port."""
    assert await raw(at, chunk, ops=ops) == b""


async def test_slow_heads_at_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for a worker, which has an operations port only."""
    monkeypatch.setattr(serving, "IDLE_S", 1.0)
    app = worker_application(ready=lambda: None)
    async with worker_listening(app, Settings(), name="test") as url:
        assert await raw(Listening(url, url), b"GET / HT") == b""


SLOW = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{"


async def test_slow_body(at: Listening) -> None:
    """A body that does not arrive in time is answered with 408."""
    answer = await raw(at, SLOW, b'"level"')

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_head_and_body_share_a_deadline(at: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes its time for the head does not get all the time of a body on top."""
    monkeypatch.setattr(serving, "IDLE_S", 600.0)
    monkeypatch.setattr(our_web, "BODY_TIMEOUT_S", 600.0)
    monkeypatch.setattr(our_web, "REQUEST_TIMEOUT_S", 1.0)
    answer = await raw(at, SLOW[:30], SLOW[30:])

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_nobody_wants_does_not_hold_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose unread body trickles in is closed before one that is silent, on every kind of answer."""
    monkeypatch.setattr(serving, "IDLE_S", 3.0)
    monkeypatch.setattr(serving, "LINGER_S", 0.1)
    settings = Settings()
    ended: list[str] = []

    async def hold(name: str, at: Listening, data: bytes) -> None:
        await raw(at, data)
        ended.append(name)

    app = application(settings, ready=lambda: None)
    async with listening(app, settings, name="test") as at, asyncio.TaskGroup() as group:
        group.create_task(hold("silent", at, b""))
        for line in (b"GET /healthz", b"POST /healthz", b"POST /nowhere"):
            head = line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
            group.create_task(hold(line.decode(), at, head))

    assert ended[-1] == "silent"


def test_a_connection_is_held_for_15_seconds_at_most() -> None:
    """The deadlines of a request that arrives slowly, whatever part of it is slow, add up to what is promised."""
    assert our_web.REQUEST_TIMEOUT_S + serving.LINGER_S < 15
    assert serving.IDLE_S + 2 < our_web.REQUEST_TIMEOUT_S  # swept every second

"""Every service answers HTTP in the same way, over real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from beaconfire_kit.serving import Listening, listening, worker_listening
from beaconfire_kit.settings import Settings
from beaconfire_kit.web import (
    REQUEST_TIMES,
    RequestTimes,
    application,
    json_answer,
    leaving,
    read_body,
    when_client_leaves,
    worker_application,
)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    level: int


@asynccontextmanager
async def serving(times: RequestTimes) -> AsyncIterator[Listening]:
    """A service with one good and one broken handler."""
    settings = Settings(allowed_origins="https://app.example")  # type: ignore[arg-type]
    app = application(settings, ready=lambda: "not yet")
    app[REQUEST_TIMES] = times

    async def echo(request: web.Request) -> web.Response:
        return json_answer((await read_body(request, Body)).model_dump())

    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("the secret is xyzzy")

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        return answer

    app.router.add_get("/stream", stream)
    app.router.add_post("/echo", echo)
    app.router.add_get("/broken", broken)
    async with listening(app, settings, name="test") as at:
        yield at


@pytest.fixture(name="at")
async def _at() -> AsyncIterator[Listening]:
    """A service with short deadlines."""
    async with serving(RequestTimes(idle_s=1.0, body_s=1.0)) as at:
        yield at


async def test_waiting_handler_learns_that_its_client_has_left() -> None:
    """A client that closes its connection, and one that had closed it before the handler waited."""
    settings = Settings()
    app = application(settings, ready=lambda: None)
    arrived, closed, left = asyncio.Event(), asyncio.Event(), asyncio.Queue[str]()

    async def wait(request: web.Request) -> web.Response:
        with when_client_leaves(request, lambda: left.put_nowait("while it waits")):
            arrived.set()
            await left.get()
        with when_client_leaves(request, lambda: left.put_nowait("before")):
            closed.set()
        return web.Response()

    app.router.add_get("/wait", wait)
    async with listening(app, settings, name="test") as at:
        parts = urlsplit(at.url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await arrived.wait()
        writer.close()
        await closed.wait()

    assert left.get_nowait() == "before"
    assert leaving == {}


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
async def test_no_answer_names_the_server_software(at: Listening, request_: bytes) -> None:
    answer = (await raw(at, request_)).lower()
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith(b"http/1.")
    assert b"server:" not in head
    assert not re.search(rb"aiohttp|python|traceback|\.py|xyzzy|hush", answer)
    assert body.startswith(b"{") or head.startswith(b"http/1.1 204")


async def test_internal_error_gets_an_id_and_never_a_stack_trace(at: Listening) -> None:
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
async def test_valid_correlation_id_is_returned_and_others_are_replaced(at: Listening, given: str, taken: bool) -> None:
    headers = {"X-Correlation-Id": given}
    async with aiohttp.ClientSession() as http, http.get(f"{at.url}/healthz", headers=headers) as answer:
        echoed = answer.headers["X-Correlation-Id"]

    assert (echoed == given) is taken
    assert echoed


async def test_liveness_and_readiness_are_separate_and_metrics_only_on_the_operations_port(at: Listening) -> None:
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


async def test_unknown_paths_and_methods_get_the_json_error(at: Listening) -> None:
    async with aiohttp.ClientSession() as http:
        missing, wrong = await http.get(f"{at.url}/nowhere"), await http.delete(f"{at.url}/echo")
        bodies = [await missing.json(), await wrong.json()]

    assert [(missing.status, wrong.status)] == [(404, 405)]
    assert [body["error"]["code"] for body in bodies] == ["not_found", "method_not_allowed"]


async def test_preflight_is_allowed_for_configured_origins_only(at: Listening) -> None:
    ask = {"Access-Control-Request-Method": "PATCH"}
    async with aiohttp.ClientSession() as http:
        allowed = await http.options(f"{at.url}/echo", headers={"Origin": "https://app.example", **ask})
        foreign = await http.options(f"{at.url}/echo", headers={"Origin": "https://evil.example", **ask})

    assert "PATCH" in allowed.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_page_of_a_configured_origin_may_read_a_streamed_answer(at: Listening) -> None:
    async with aiohttp.ClientSession(headers={"Origin": "https://app.example"}) as http:
        answer = await http.get(f"{at.url}/stream")

    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"


@pytest.mark.parametrize("ops", [False, True], ids=["public port", "operations port"])
@pytest.mark.parametrize(
    "chunk", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["silent", "half a line", "half a head"]
)
async def test_connection_with_a_slow_request_head_is_closed_on_every_port(
    at: Listening, chunk: bytes, ops: bool
) -> None:
    """Slowloris."""
    assert await raw(at, chunk, ops=ops) == b""


async def test_slow_request_head_at_a_workers_operations_port_is_closed() -> None:
    app = worker_application(ready=lambda: None)
    app[REQUEST_TIMES] = RequestTimes(idle_s=1.0)
    async with worker_listening(app, Settings(), name="test") as url:
        assert await raw(Listening(url, url), b"GET / HT") == b""


SLOW = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{"


async def test_slow_body_gets_408(at: Listening) -> None:
    answer = await raw(at, SLOW, b'"level"')

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_slow_head_and_slow_body_share_one_deadline() -> None:
    async with serving(RequestTimes(idle_s=600.0, body_s=600.0, request_s=1.0)) as at:
        answer = await raw(at, SLOW[:30], SLOW[30:])

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_connection_with_a_trickling_unread_body_is_closed_early_on_every_kind_of_answer() -> None:
    settings = Settings()
    ended: list[str] = []

    async def hold(name: str, at: Listening, data: bytes) -> None:
        await raw(at, data)
        ended.append(name)

    app = application(settings, ready=lambda: None)
    app[REQUEST_TIMES] = RequestTimes(idle_s=3.0, linger_s=0.1)
    async with listening(app, settings, name="test") as at, asyncio.TaskGroup() as group:
        group.create_task(hold("silent", at, b""))
        for line in (b"GET /healthz", b"POST /healthz", b"POST /nowhere"):
            head = line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
            group.create_task(hold(line.decode(), at, head))

    assert ended[-1] == "silent"


def test_deadlines_of_a_slow_request_add_up_to_15_seconds_at_most() -> None:
    times = RequestTimes()

    assert times.request_s + times.linger_s < 15
    assert times.idle_s + 2 < times.request_s  # swept every second

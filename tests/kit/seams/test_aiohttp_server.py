"""aiohttp still has the private names that `seams.aiohttp_server` leans on. Its behaviour: test_web.py."""

from aiohttp import web, web_runner
from aiohttp.web_protocol import RequestHandler

from beaconfire_kit.seams.aiohttp_server import PipeliningConnection, Runner
from tests.kit.seams.signatures import parameters, source


async def test_a_runner_serves_connections_of_the_chosen_class() -> None:
    """The server that aiohttp makes creates each connection with its own loop and options."""
    runner = Runner(web.Application(), connection=PipeliningConnection, keepalive_timeout=7)
    await runner.setup()
    try:
        assert runner.server is not None
        connection = runner.server()
        plain = web.Server.__call__
        assert type(connection) is PipeliningConnection
        assert connection.keepalive_timeout == 7
        assert "RequestHandler(self, loop=self._loop, **self._kwargs)" in source(plain)
    finally:
        await runner.cleanup()


def test_aiohttp_still_makes_its_server_and_headers_where_they_are_replaced() -> None:
    """`_make_server` and `_prepare_headers` have no parameters, and are awaited where they were awaited."""
    assert parameters(web.AppRunner._make_server) == ["self"]
    assert "await self._make_server()" in source(web_runner.BaseRunner.setup)
    assert parameters(web.Response._prepare_headers) == ["self"]
    assert "await self._prepare_headers()" in source(web.StreamResponse)


def test_aiohttp_still_counts_requests_under_the_same_names() -> None:
    """A connection knows whether it was upgraded, how many requests it has read, and which of them wait."""
    received = source(RequestHandler.data_received)

    assert "self._upgraded = upgraded" in received
    assert "self._request_count += 1" in received
    assert "self._messages.append((msg, payload))" in received

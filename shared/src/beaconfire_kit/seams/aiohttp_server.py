"""Run an aiohttp application on connections of our own class.

aiohttp has no place for a subclass of its `RequestHandler`, and loses requests behind an offer to upgrade.

This leans on private names of aiohttp: `AppRunner._make_server`, `Server._loop` and `_kwargs`, `_upgraded`,
`_request_count` and `_messages` of `RequestHandler`, and `Response._prepare_headers`.
tests/kit/seams/test_aiohttp_server.py fails when a release changes them.
"""

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

MAX_PIECES = 1_000
"""Blank lines in one request that offers an upgrade, before its connection is dropped. Each costs a call of the
parser, so a client could keep us busy with blank lines alone."""
_BLANK_LINE = b"\r\n\r\n"


class PipeliningConnection(RequestHandler):
    """aiohttp's connection, except that it loses no request behind an offer to upgrade.

    aiohttp's parser stops at the end of a request with `Connection: Upgrade`. If aiohttp then ignores the offer (any
    except a WebSocket), it drops the rest of the data. Those are the next requests of a client that did not wait. So
    aiohttp is given pieces that end where a request ends. That is after a body of known length, or at a blank line,
    which ends a head and a chunked body.
    """

    __slots__ = ("_body_left", "_offers_upgrade", "_pieces", "_tail")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offers_upgrade = False
        self._body_left = 0
        self._pieces = 0
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        if b"pgrade" in data or b"PGRADE" in data:
            # aiohttp keeps data behind a WebSocket's handshake, and there may be thousands of handshakes in a second.
            self._offers_upgrade = self._offers_upgrade or b"Upgrade: websocket" not in data
        if self._offers_upgrade:
            self._receive_in_pieces(data)
        else:
            super().data_received(data)

    def _receive_in_pieces(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._upgraded:
            end = start + self._body_left if self._body_left else self._find_blank_line(data, start)
            piece = data[start:end]
            start += len(piece)
            self._tail = b"" if self._body_left or piece.endswith(_BLANK_LINE) else (self._tail + piece[-3:])[-3:]
            self._body_left = max(0, self._body_left - len(piece))
            requests = self._request_count
            super().data_received(piece)
            self._pieces += start < len(data)
            if self._request_count > requests and self._messages:
                length = getattr(self._messages[-1][0], "headers", {}).get(hdrs.CONTENT_LENGTH, "0")
                self._body_left = int(length[-20:])  # digits, of at most 64 bits, behind any number of zeros
                self._pieces, self._tail = 0, b""
            elif self._pieces > MAX_PIECES and self.transport is not None:
                self.transport.abort()
                return
        if start < len(data):
            super().data_received(data[start:])

    def _find_blank_line(self, data: bytes, start: int) -> int:
        """Return where the next blank line ends, or the end of `data`. The line may start in earlier data."""
        around = self._tail + data[start : start + 3]
        if (at := around.find(_BLANK_LINE)) >= 0:
            return start + at + len(_BLANK_LINE) - len(self._tail)
        at = data.find(_BLANK_LINE, start)
        return at + len(_BLANK_LINE) if at >= 0 else len(data)


class UnpreparedResponse(web.Response):
    """An answer to what is not a valid request: no application prepares it. `finish` may change its headers."""

    def __init__(self, *, finish: Callable[[web.StreamResponse], None], **options: Any) -> None:
        super().__init__(**options)
        self._finish = finish

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._finish(self)


class Runner(web.AppRunner):
    """aiohttp's runner, for an application whose connections are of the class `connection`."""

    def __init__(self, app: web.Application, *, connection: type[RequestHandler], **options: Any) -> None:
        super().__init__(app, **options)
        self._connection = connection

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        assert isinstance(server, _Server)
        server.connection = self._connection
        return server


class _Server(web.Server):
    connection: type[RequestHandler]

    def __call__(self) -> RequestHandler:
        return self.connection(self, loop=self._loop, **self._kwargs)

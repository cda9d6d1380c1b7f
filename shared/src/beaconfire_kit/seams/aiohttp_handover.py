"""Take a socket over from aiohttp after the WebSocket handshake (ADR 0005, ADR 0018).

    descriptor = take_over(transport)
    transport.pause_reading()
    ...                                    # write the 101 answer to the descriptor, without an await in between
    early = bytes_behind(request)          # what the client sent before the answer
    let_go()

This leans on aiohttp in two ways. `RequestHandler._message_tail` holds what arrived behind a request with an upgrade.
And a handler that raises CancelledError makes aiohttp forget the request, end its task and close its transport, without
an answer. tests/kit/seams/test_aiohttp_handover.py fails when a release changes that.
"""

import asyncio
import os
from asyncio import Transport
from typing import NoReturn

from aiohttp import web


class Undrained(Exception):
    """The transport has not written everything yet."""


def take_over(transport: Transport) -> int:
    """Return a file descriptor of our own for a transport's socket. Closing the transport leaves it open.

    The transport still reads: pause it before the event loop turns. Raises OSError if no more files can be opened, and
    Undrained.
    """
    if transport.get_write_buffer_size():
        raise Undrained
    return os.dup(transport.get_extra_info("socket").fileno())


def bytes_behind(request: web.Request) -> bytes:
    """Return what the client sent behind its handshake, before it had the answer."""
    return request.protocol._message_tail


def let_go() -> NoReturn:
    """Raise what makes aiohttp drop request, parser and task, and close its transport. Call it in the handler."""
    raise asyncio.CancelledError

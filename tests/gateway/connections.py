"""Finds the gateway's connections in this process's memory."""

import gc
import socket
from typing import Any
from urllib.parse import urlsplit

from aiohttp.web_protocol import RequestHandler

from beaconfire_gateway.transports.websocket import WebSocket


def connections(user: str) -> list[Any]:
    """All of this process's gateway connections of a user, found in memory."""
    everything = gc.get_objects()
    return [one for one in everything if isinstance(one, WebSocket) and one.user_id == user and one.target >= 0]


def shrink(connection: WebSocket) -> None:
    """Give the gateway's end the smallest possible kernel buffer."""
    with socket.socket(fileno=connection.target) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        one.detach()


def aiohttp_handlers(url: str) -> list[RequestHandler]:
    """The connections of the gateway at `url` that aiohttp still serves."""
    port = urlsplit(url).port
    return [one for one in gc.get_objects() if isinstance(one, RequestHandler) and _serves(one, port)]


def _serves(handler: RequestHandler, port: int | None) -> bool:
    transport = handler.transport
    return transport is not None and transport.get_extra_info("sockname")[1] == port

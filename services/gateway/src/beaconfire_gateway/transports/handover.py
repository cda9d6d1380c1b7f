"""The handover: a request's socket leaves aiohttp, and a connection of ours goes on with its descriptor (ADR 0018)."""

from collections.abc import Callable
from typing import NoReturn

from aiohttp import web

from beaconfire_gateway.transports.admission import OPENED, Admission
from beaconfire_gateway.transports.socket_connection import SocketConnection
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.seams.aiohttp_handover import Undrained, bytes_behind, let_go, take_over
from beaconfire_kit.web import HANDED_OVER

log = logs.get(__name__)


def hand_over(
    request: web.Request, admission: Admission, address: str, make: Callable[[int], SocketConnection], head: bytes
) -> NoReturn:
    """Go on with the connection that `make` makes of the request's descriptor. Its first bytes are `head`.

    `head` ends HTTP on the socket: it is the answer's head. Does not return to aiohttp, and does not await: no byte can
    come in between. If the socket cannot be taken over, the address leaves the door: raises HTTPBadRequest or
    BeaconfireError. `make` raises OSError if the descriptor cannot be served.
    """
    transport = request.transport
    assert transport is not None
    try:
        connection = make(take_over(transport))
    except Undrained:
        admission.refuse_entered(address, "unread")
        raise web.HTTPBadRequest(reason="read the answers to earlier requests first") from None
    except OSError as error:
        admission.refuse_entered(address, "files")
        log.warning("could not take a connection over", error=str(error))
        raise BeaconfireError(errors.UNAVAILABLE, "no room for more connections, try again") from None
    transport.pause_reading()
    connection.write(head)
    OPENED.inc()
    early = bytes_behind(request)  # sent before our answer: allowed by no RFC, and cheap to accept
    if early:
        connection.data_received(early)
    request[HANDED_OVER] = True
    let_go()

"""Answer `/socket.io`: check the request, and open a connection, or pass it to `polling` or `upgrade`.

Refusals are those of Engine.IO: status 400 with `{"code", "message"}`. Clients of Socket.IO 2 and older speak Engine.IO
3, and are refused with code 5.
"""

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.transports.aiohttp_websocket_connection import AiohttpSocket
from beaconfire_gateway.transports.relay import Relay
from beaconfire_gateway.transports.socketio.answers import (
    BAD_METHOD,
    UNKNOWN_TRANSPORT,
    UNSUPPORTED_VERSION,
    Answer,
)
from beaconfire_gateway.transports.socketio.connection import AdoptConnection, MakeConnection, first_packet
from beaconfire_gateway.transports.socketio.polling import Polling
from beaconfire_gateway.transports.socketio.polling_carrier import Carriers
from beaconfire_gateway.transports.socketio.questions import Questions
from beaconfire_gateway.transports.socketio.sealed import new_sid
from beaconfire_gateway.transports.socketio.upgrade import Upgrades
from beaconfire_gateway.transports.socketio.websocket_carrier import AiohttpWebSocketCarrier, WebSocketCarrier
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.wire.engineio import VERSION


class SocketIOHandler:
    """See the module. `make` and `adopt` make connections, once the door has counted them."""

    def __init__(
        self,
        gateway: Gateway,
        admission: Admission,
        opening: WebSocketOpening,
        relay: Relay,
        make: MakeConnection,
        adopt: AdoptConnection,
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._opening = opening
        self._make = make
        self.carriers = Carriers()
        questions = Questions(relay, gateway.process_id, self.carriers)
        self._polling = Polling(gateway, admission, self.carriers, questions, make)
        self._upgrades = Upgrades(gateway, opening, self.carriers, questions, adopt)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Answers, or does not return to aiohttp (or when all is over)."""
        self._admission.check_origin(request)
        query = request.query
        if query.get("EIO") != VERSION:
            return self._refuse("version", UNSUPPORTED_VERSION)
        transport = query.get("transport")
        if transport == "polling":
            return await self._polling.handle(request)
        if transport != "websocket":
            return self._refuse("transport", UNKNOWN_TRANSPORT)
        if request.method != hdrs.METH_GET:
            return self._refuse("method", BAD_METHOD)
        if (sid := query.get("sid")) is not None:
            return await self._upgrades.handle(request, sid)
        return await self._open(request)

    async def _open(self, request: web.Request) -> web.StreamResponse:
        """Open a connection over a WebSocket."""
        gateway = self._gateway
        accept = self._opening.check(request)

        def ours(sockets: Sockets, descriptor: int, /, *, address: str) -> WebSocketCarrier:
            carrier = WebSocketCarrier(gateway, sockets, descriptor)
            self._make(carrier, address, request)
            return carrier

        def aiohttps(socket: AiohttpSocket, /, *, address: str) -> AiohttpWebSocketCarrier:
            carrier = AiohttpWebSocketCarrier(gateway, socket)
            self._make(carrier, address, request)
            return carrier

        first = first_packet(gateway.limits, new_sid(gateway.process_id))
        return await self._opening.open(request, accept, ours=ours, aiohttps=aiohttps, first=first)

    def _refuse(self, reason: str, answer: Answer) -> web.Response:
        self._admission.refuse(reason)
        return answer.response()

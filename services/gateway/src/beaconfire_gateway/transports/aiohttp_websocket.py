"""One session over a WebSocket that aiohttp serves, as `websocket` has it on a socket of ours."""

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.transports.aiohttp_websocket_connection import (
    AIOHTTP_SLOTS,
    AiohttpSocket,
    AiohttpWebSocketConnection,
)
from beaconfire_gateway.wire.wire import Wire


class AiohttpWebSocket(AiohttpWebSocketConnection, SoleSession):
    """See the module. Session and connection are one object."""

    __slots__ = AIOHTTP_SLOTS

    def __init__(
        self, gateway: Gateway, wire: Wire, socket: AiohttpSocket, *, address: str, offered_token: str
    ) -> None:
        self._serve_aiohttp(socket)
        super().__init__(gateway, wire, address=address, offered_token=offered_token)

    def on_text(self, payload: bytes) -> None:
        self.receive(payload)

    def write(self, data: bytes) -> None:
        """Write whole frames, now, unless the session is closed."""
        if self.state is not State.CLOSED:
            super().write(data)

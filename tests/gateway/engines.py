"""Engine.IO connections for tests, and a carrier that keeps what is written to it."""

from collections.abc import Mapping
from typing import Any

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.moving import Moved, unpack
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.socketio.connection import EngineCarrier, EngineConnection
from beaconfire_gateway.wire.engineio import MessagePackets
from beaconfire_gateway.wire.websocket_frames import Opcode, encode
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.toys import Lined, Words

WORDS = Wire(Words(), MessagePackets())


class HeldCarrier(EngineCarrier):
    """Keeps what is written to it until its client asks, as polling does. `at_most` bytes make it full."""

    transport = "held"

    def __init__(self, gateway: Gateway, at_most: int = 1_000_000) -> None:
        self.gateway = gateway
        self._at_most = at_most
        self._kept = b""

    @property
    def writer(self) -> Writer:
        return CALLING

    @property
    def target(self) -> Target:
        """The connection's, so that what is queued when it changes its carrier goes to the next one."""
        return self.engine.write

    @property
    def is_full(self) -> bool:
        return len(self._kept) >= self._at_most

    def write(self, data: bytes) -> None:
        was_full = self.is_full
        self._kept += data
        if self.is_full and not was_full:
            self.full()

    def take(self) -> bytes:
        kept, self._kept = self._kept, b""
        return kept

    def end(self, error: BeaconfireError | None = None) -> None:
        self.abort()

    def abort(self) -> None:
        self.gone()


class EchoConnection(EngineConnection):
    """Sends each message back."""

    def on_message(self, data: bytes) -> None:
        self.write(encode(b"4" + data))

    def on_binary(self, data: bytes) -> None:
        self.write(encode(data, Opcode.BINARY))

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        self.carrier.end(error)

    def unpack(self, packed: Mapping[str, Any]) -> None:
        for session, moved in zip(self.sessions, packed["sessions"], strict=True):
            unpack(session, Moved.decode(moved))


class WordsConnection(EchoConnection):
    """Carries one session that speaks `toys.Words`."""

    def __init__(self, gateway: Gateway, carrier: EngineCarrier, *, address: str) -> None:
        super().__init__(gateway, carrier, address=address)
        self.session = Lined(WORDS, self)

    def on_message(self, data: bytes) -> None:
        self.session.receive(data)

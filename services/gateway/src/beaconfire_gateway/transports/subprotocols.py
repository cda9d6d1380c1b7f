"""The subprotocols of a WebSocket: what is spoken under each name, and the wires that sessions share."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeAlias

from beaconfire_gateway.wire import msgpack
from beaconfire_gateway.wire.batching import BatchingWire
from beaconfire_gateway.wire.deflate import Agreement, DeflatedFrames
from beaconfire_gateway.wire.framing import BinaryFrames, TextFrames
from beaconfire_gateway.wire.msgpack import BinaryFields, Msgpack
from beaconfire_gateway.wire.native import BATCHING_SUBPROTOCOL, SUBPROTOCOL, Native
from beaconfire_gateway.wire.plain import Plain
from beaconfire_gateway.wire.websocket_frames import Opcode
from beaconfire_gateway.wire.wire import Wire

SUBPROTOCOLS = (SUBPROTOCOL, BATCHING_SUBPROTOCOL, msgpack.SUBPROTOCOL)
"""The names that clients may offer."""
BINARY = frozenset({msgpack.SUBPROTOCOL})
"""Those whose messages are binary."""
PLAIN, PLAIN_RESUMING = "plain", "plain with a cursor"
"""What is spoken if a client offers none. These names are never offered."""

_MakesWire: TypeAlias = Callable[[TextFrames | BinaryFrames | DeflatedFrames], Wire]


class Subprotocols:
    """Makes one wire for all connections that agreed on the same."""

    def __init__(self, binary_fields: BinaryFields) -> None:
        native = Native()
        self._make: Mapping[str, _MakesWire] = {  # a further dialect over WebSockets is a line here
            SUBPROTOCOL: partial(Wire, native),
            BATCHING_SUBPROTOCOL: partial(BatchingWire, native),
            msgpack.SUBPROTOCOL: partial(Wire, Msgpack(binary_fields)),
            PLAIN: partial(Wire, Plain(resumes=False)),
            PLAIN_RESUMING: partial(Wire, Plain(resumes=True)),
        }
        self._wires: dict[tuple[str, Agreement | None], Wire] = {}

    def choose(self, offered: Iterable[str]) -> str | None:
        """The first that a client offers and we speak: it offers them in the order that it prefers."""
        return next((name for name in offered if name in SUBPROTOCOLS), None)

    def wire(self, name: str, agreement: Agreement | None) -> Wire:
        """The one wire of a subprotocol or of `PLAIN`, and an agreement about compression (None: no compression)."""
        key = (name, agreement)
        wire = self._wires.get(key)
        if wire is None:
            wire = self._wires[key] = self._make[name](_framing(name, agreement))
        return wire


def _framing(name: str, agreement: Agreement | None) -> TextFrames | BinaryFrames | DeflatedFrames:
    if agreement is not None:
        return DeflatedFrames(agreement.window_bits, Opcode.BINARY if name in BINARY else Opcode.TEXT)
    return BinaryFrames() if name in BINARY else TextFrames()

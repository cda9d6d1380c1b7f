"""The subprotocols of a WebSocket: the dialect that each name stands for, and the wires that sessions share."""

from collections.abc import Callable, Iterable, Mapping

from beaconfire_gateway.wire import native
from beaconfire_gateway.wire.deflate import Agreement, DeflatedFrames
from beaconfire_gateway.wire.dialect import Dialect
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.plain import Plain
from beaconfire_gateway.wire.wire import Wire

DIALECTS: Mapping[str, Callable[[], Dialect]] = {native.SUBPROTOCOL: Native}
"""By the subprotocol that a client offers. A further dialect over WebSockets is a line here."""


class Subprotocols:
    """Makes one dialect for each subprotocol, and one wire for all connections that agreed on the same."""

    def __init__(self) -> None:
        self._dialects = {name: make() for name, make in DIALECTS.items()}
        self._plain = {resumes: Plain(resumes=resumes) for resumes in (False, True)}
        self._wires: dict[tuple[Dialect, Agreement | None], Wire] = {}

    def choose(self, offered: Iterable[str]) -> str | None:
        """The first that a client offers and we speak: it offers them in the order that it prefers."""
        return next((name for name in offered if name in self._dialects), None)

    def wire(self, subprotocol: str, agreement: Agreement | None) -> Wire:
        """The one wire of a subprotocol and an agreement about compression (None: no compression)."""
        return self._wire(self._dialects[subprotocol], agreement)

    def plain_wire(self, agreement: Agreement | None, *, resumes: bool) -> Wire:
        """The one wire of clients that offer no subprotocol, and keep a cursor or not."""
        return self._wire(self._plain[resumes], agreement)

    def _wire(self, dialect: Dialect, agreement: Agreement | None) -> Wire:
        key = (dialect, agreement)
        wire = self._wires.get(key)
        if wire is None:
            framing = TextFrames() if agreement is None else DeflatedFrames(agreement.window_bits)
            wire = self._wires[key] = Wire(dialect, framing)
        return wire

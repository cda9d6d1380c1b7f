"""Sessions of the core without sockets, for models: each message is a line of JSON in the client's list."""

import json
from typing import Any

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.wire import messages
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.errors import BeaconfireError


class Socket:
    """A client's end of a connection. It is full while `paused` is set."""

    def __init__(self) -> None:
        self.paused = False
        self.is_open = True
        self.frames: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        if self.is_open:
            self.frames += [json.loads(line) for line in data.splitlines()]


class Lines:
    """A framing: one line for each message."""

    def frame(self, payload: Spliced, content: messages.Message | messages.Event) -> Spliced:
        before, body, after = payload
        return before, body, after + b"\n"


WIRE = Wire(Native(), Lines())


class Connected(SoleSession):
    """A session over such a connection."""

    transport = "lines"

    def __init__(self, core: Gateway, socket: Socket) -> None:
        self._socket = socket
        core.door.enter("127.0.0.1")
        super().__init__(core, WIRE, address="127.0.0.1")

    @property
    def writer(self) -> Writer:
        return CALLING

    @property
    def target(self) -> Target:
        return self._socket.write

    @property
    def is_full(self) -> bool:
        return self._socket.paused

    def write(self, data: bytes) -> None:
        self._socket.write(data)

    def ping(self, session: Session, data: bytes = b"") -> None:
        self.write(data)

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        self._socket.is_open = False

    def abort(self, session: Session) -> None:
        self._socket.is_open = False

"""Send many sessions the same message, some of them in each turn of the loop. No I/O."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.wire.messages import Message
from beaconfire_gateway.wire.wire import Wire

SLICE = 100
"""Sessions that are told in one step: about a millisecond."""


def tell(gateway: Gateway, message: Message, sessions: Iterable[Session], may_hear: Callable[[Session], bool]) -> None:
    """Send a message to the first sessions now, and to the others in later turns of the loop.

    `may_hear` is asked just before each of them is told. A session that catches up is left out. All sessions with the
    same wire share the bytes.
    """
    _tell_some(gateway, message, iter(list(sessions)), may_hear, {})


def _tell_some(
    gateway: Gateway,
    message: Message,
    sessions: Iterator[Session],
    may_hear: Callable[[Session], bool],
    encoded: dict[Wire, bytes],
) -> None:
    has_more = False
    for session in islice(sessions, SLICE):
        has_more = True
        if session.state is not State.LIVE or not may_hear(session):
            continue
        data = encoded.get(session.wire)
        if data is None:
            data = encoded[session.wire] = session.wire.encode(message)
        if data:  # some dialects have no such message
            gateway.outbound.send(session, data)
    if has_more:
        gateway.steps.add(partial(_tell_some, gateway, message, sessions, may_hear, encoded))

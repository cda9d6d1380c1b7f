"""Engine.IO connections over WebSockets, and the change of what carries one."""

import pytest

from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.session import SESSIONS, State
from beaconfire_gateway.transports.socketio.websocket_carrier import WebSocketCarrier
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.wire.engineio import decode, payload_of
from beaconfire_gateway.wire.websocket_frames import Opcode, decode_close
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.core import (
    ENDS,
    deliver,
    heard_by,
    open_descriptor,
    settled,
    started_core,
)
from tests.gateway.engines import EchoConnection, HeldCarrier, WordsConnection
from tests.websocket import client_frame

ADDRESS = "an address"


@pytest.fixture(name="core")
async def _core(sockets: Sockets) -> Core:
    return started_core(Limits(heartbeat_s=2))


@pytest.fixture(name="carrier")
async def _carrier(core: Core, sockets: Sockets) -> WebSocketCarrier:
    return WebSocketCarrier(core, sockets, open_descriptor())


@pytest.fixture(name="echo")
async def _echo(core: Core, carrier: WebSocketCarrier) -> EchoConnection:
    core.door.enter(ADDRESS)
    return EchoConnection(core, carrier, address=ADDRESS)


@pytest.fixture(name="held")
async def _held(core: Core) -> HeldCarrier:
    return HeldCarrier(core)


@pytest.fixture(name="words")
async def _words(core: Core, held: HeldCarrier) -> WordsConnection:
    """A connection over a carrier that may be replaced, with a session in one room."""
    core.door.enter(ADDRESS)
    words = WordsConnection(core, held, address=ADDRESS)
    held.received(decode(b"4connect a e:10 campaign:c1"))
    await settled()
    assert payload_of(held.take()) == b"4connection.ack"
    return words


def packets(end: int) -> list[bytes]:
    """The packets that arrived at a client's end."""
    return payload_of(heard_by(end)).split(b"\x1e")


def say(carrier: WebSocketCarrier, *messages: bytes) -> None:
    for message in messages:
        carrier.data_received(client_frame(message))


@pytest.mark.usefixtures("echo")
async def test_messages_come_and_go_as_packets(carrier: WebSocketCarrier) -> None:
    """A text message is a packet with the digit 4, and a binary message is a binary frame."""
    say(carrier, b"4hello")
    carrier.data_received(client_frame(b"\x01\x02", Opcode.BINARY))

    assert packets(ENDS[-1]) == [b"4hello", b"bAQI="]


@pytest.mark.parametrize("packet", [b"abc", b"", b"7", b"0{}", b"2", b"5", b"6"])
async def test_packet_that_no_client_sends_closes_the_connection(
    core: Core, echo: EchoConnection, carrier: WebSocketCarrier, packet: bytes
) -> None:
    """The close frame says what is wrong with the packet."""
    say(carrier, packet)

    heard = heard_by(ENDS[-1])
    assert heard[0] == 0x80 | Opcode.CLOSE
    code, reason = decode_close(heard[2:])
    assert code == 1002
    assert "packet" in reason or "client" in reason
    assert echo not in core.connecting


async def test_client_that_sends_close_is_gone(core: Core, echo: EchoConnection, carrier: WebSocketCarrier) -> None:
    """The connection leaves the door when the client has closed its socket."""
    say(carrier, b"1")
    assert echo not in core.connecting

    carrier.abort()
    await settled()

    assert not core.door.addresses


async def test_connection_without_a_session_is_pinged(
    core: Core, echo: EchoConnection, carrier: WebSocketCarrier
) -> None:
    """A client that answers each ping stays."""
    for second in range(1, 20):
        core.turn(second)
        if heard := heard_by(ENDS[-1]):
            assert payload_of(heard) == b"2"
            say(carrier, b"3")

    assert echo in core.connecting


async def test_client_that_answers_no_ping_is_dropped(core: Core, echo: EchoConnection) -> None:
    """Its connection ends once the ping timeout has passed."""
    for second in range(1, 9):
        core.turn(second)
    await settled()

    assert echo not in core.connecting
    assert not core.door.addresses


async def test_connection_that_changes_its_carrier_loses_no_event(
    core: Core, words: WordsConnection, carrier: WebSocketCarrier
) -> None:
    """Events before, at and after the change arrive once and in order: also those that wait to be written."""
    deliver(core, 11)
    await settled()
    deliver(core, 12)
    words.move_to(carrier)
    deliver(core, 13)
    await settled()
    deliver(core, 14)
    await settled()

    assert [one for one in packets(ENDS[-1]) if b"position" not in one] == [b"4%d ydob" % n for n in (11, 12, 13, 14)]
    assert words.session.state is State.LIVE


async def test_full_carrier_is_replaced_by_one_that_takes_more(core: Core, carrier: WebSocketCarrier) -> None:
    """A session that fell behind on its old carrier catches up on the new one."""
    core.door.enter(ADDRESS)
    words = WordsConnection(core, HeldCarrier(core, at_most=20), address=ADDRESS)
    words.carrier.received(decode(b"4connect a e:10 campaign:c1"))
    await settled()
    for offset in range(11, 20):
        deliver(core, offset)
        await settled()
    assert words.session.behind is not None

    words.move_to(carrier)
    await settled()

    events = [one for one in packets(ENDS[-1]) if one[1:2].isdigit()]
    assert events == [b"4%d ydob" % offset for offset in range(11, 20)]
    assert words.session.state is State.LIVE


async def test_replaced_carrier_ends_without_a_trace(
    core: Core, words: WordsConnection, held: HeldCarrier, carrier: WebSocketCarrier
) -> None:
    """Its connection goes on."""
    words.move_to(carrier)
    held.full()
    held.abort()
    await settled()

    assert words.session.state is State.LIVE
    assert core.door.addresses == {ADDRESS: 1}


async def test_closing_gateway_closes_the_connection_with_the_error(core: Core, echo: EchoConnection) -> None:
    """The close frame has the error's code."""
    core.close_all(BeaconfireError(errors.UNAVAILABLE, "going away"))

    assert decode_close(heard_by(ENDS[-1])[2:]) == (4503, "going away")
    assert echo not in core.connecting


async def test_session_counts_for_the_transport_that_carries_it_now(
    words: WordsConnection, carrier: WebSocketCarrier
) -> None:
    def counted() -> tuple[float, float]:
        held, websocket = (SESSIONS.labels(transport, "words") for transport in ("held", "websocket"))
        return held._value.get(), websocket._value.get()

    counts = [counted()]
    words.move_to(carrier)
    counts.append(counted())
    words.lost()
    counts.append(counted())

    held, websocket = counts[2]
    assert counts == [(held + 1, websocket), (held, websocket + 1), (held, websocket)]

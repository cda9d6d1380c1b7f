"""Carry an Engine.IO connection over long polls: what is written waits here until the client asks for it.

A client has one poll open nearly always, and begins the next one with the answer to the last. Between two of them, and
while a poll is answered at another gateway, the bytes wait. From FULL_BYTES on the carrier is full, and its sessions
catch up from history later, as those of a full socket do.

Engine.IO acknowledges nothing. So whenever an answer may be lost, the connection is ended. Its client notices that too,
connects again, and is sent what it missed.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeAlias

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.connection import CLOSE_TIMEOUT_S
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.socketio.answers import BAD_REQUEST, OK, TOO_MANY, Answer
from beaconfire_gateway.transports.socketio.connection import EngineCarrier
from beaconfire_gateway.transports.socketio.sealed import name_of
from beaconfire_gateway.wire.engineio import CLOSE, NOOP, InvalidPacket, PacketType, decode_payload, payload_of
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend

log = logs.get(__name__)

FULL_BYTES = 65_536
MAX_KEPT_BYTES = 1_048_576
"""Sessions write no event while it is full. So a client for which more waits sends requests, and does not poll."""
ANSWER_BYTES = 131_072
"""More is left for the next poll. A relayed answer is one message of the broker."""
POLLS_PER_MINUTE = 1_200
"""A client that was answered so often gets 20 answers a second from then on, with more events in each."""
POSTS_PER_MINUTE = 600
"""As with pings over a WebSocket: a request costs no less than a message, and messages are limited."""
MAX_ASKERS = 1_000
"""Gateway processes that a client's requests may go through."""
NOOP_S = 0.1
"""How long a poll waits while its client tries out a WebSocket. The client pauses polling for that."""
UPGRADE_TIMEOUT_S = 10
"""How long a client may try out a WebSocket."""

Waiting: TypeAlias = Callable[[Answer], None]
"""A request that waits for its answer."""


class Carriers:
    """The polling carriers of this process."""

    def __init__(self) -> None:
        self._by_name: dict[str, PollingCarrier] = {}

    def get(self, sid: str) -> "PollingCarrier | None":
        """Return the carrier of this sid, if there is one."""
        carrier = self.named(name_of(sid))
        asked = sid.encode(errors="replace")
        return carrier if carrier is not None and secrets.compare_digest(carrier.sid.encode(), asked) else None

    def named(self, name: str) -> "PollingCarrier | None":
        """Return the carrier with this name, which is no proof that its client asks."""
        return self._by_name.get(name)

    def add(self, carrier: "PollingCarrier") -> None:
        self._by_name[name_of(carrier.sid)] = carrier

    def remove(self, carrier: "PollingCarrier") -> bool:
        """Return whether it was here."""
        return self._by_name.pop(name_of(carrier.sid), None) is not None


class PollingCarrier(EngineCarrier):
    """See the module. It is among `carriers` until it ends, or its connection goes over to another carrier."""

    __slots__ = (
        "_answers_at",
        "_carriers",
        "_ending",
        "_kept",
        "_poll",
        "_polls_empty_at",
        "_posts_empty_at",
        "_questions",
        "_stamp",
        "_timer",
        "_timer_at",
        "_upgrading_until",
        "engine",
        "gateway",
        "id",
        "kept_bytes",
        "sid",
    )

    transport = "polling"

    def __init__(self, gateway: Gateway, carriers: Carriers, sid: str) -> None:
        self.gateway = gateway
        self._carriers = carriers
        self.sid = sid
        self._kept: list[bytes] = []  # each is a write, of whole frames
        self.kept_bytes = 0
        """Bytes that wait for the client's next poll."""
        self._poll: Waiting | None = None
        self._stamp = ""
        self._answers_at = 0.0  # the poll is not answered earlier
        self._timer: asyncio.Handle | None = None  # answers the poll
        self._timer_at = 0.0  # a handle of uvloop that is due at once does not know its time
        self._polls_empty_at = 0.0
        self._posts_empty_at = 0.0
        self._upgrading_until = 0.0
        self._ending = False
        self._questions: dict[bytes, bytes] = {}  # the number of the last one of each process that asked
        carriers.add(self)

    # The client's requests.

    def poll(self, answer: Waiting, stamp: str) -> None:
        """Answer a client's poll, now or later. `stamp` differs between any two polls of a client, if it sends one.

        A second poll at a time ends the connection, as Engine.IO demands. So does one that a proxy repeats: what the
        first was answered may be lost.
        """
        if self._poll is not None or (stamp and stamp == self._stamp):
            answer(BAD_REQUEST)
            self._break("two polls at a time" if self._poll else "a repeated poll")
            return
        now = _now()
        self._polls_empty_at, wait_s = spend(self._polls_empty_at, 1, POLLS_PER_MINUTE, now)
        if wait_s:
            self._polls_empty_at, _ = spend(self._polls_empty_at, 1, POLLS_PER_MINUTE, now + wait_s)
        self._poll, self._stamp, self._answers_at = answer, stamp, now + wait_s
        if self._kept:
            self._answer_at(self._answers_at)
        elif self.is_upgrading:
            self._answer_at(max(self._answers_at, now + NOOP_S))

    def abandon(self) -> None:
        """The client of a poll has gone, or its answer cannot reach it."""
        self._forget_poll()
        self._break("an abandoned poll")

    def release(self) -> None:
        """Let the waiting poll wait no longer: the gateway that its client has asked stops."""
        if self._poll is not None:
            self._answer_at(self._answers_at)

    def post(self, body: bytes) -> Answer:
        """Take a client's packets."""
        self._posts_empty_at, wait_s = spend(self._posts_empty_at, 1, POSTS_PER_MINUTE, _now())
        if wait_s:
            self._break(f"over {POSTS_PER_MINUTE} requests a minute")
            return TOO_MANY
        try:
            body.decode()
            for packet in decode_payload(body):
                if packet.type is PacketType.CLOSE:
                    self._leave()
                if not self.is_open:
                    break
                self.received(packet)
        except (InvalidPacket, UnicodeDecodeError) as broken:
            self._break(str(broken))
            return BAD_REQUEST
        except Exception:
            log.exception("could not handle a message", connection=self.id)
            self.close(errors.internal(self.id))
            return BAD_REQUEST
        return OK

    def is_new_question(self, asker: bytes, number: bytes) -> bool:
        """Whether a process asks this for the first time: nobody may send a question again that a gateway has asked.

        The questions of a process arrive in their order.
        """
        last = self._questions.get(asker, b"")
        if number <= last or (not last and len(self._questions) >= MAX_ASKERS):
            return False
        self._questions[asker] = number
        return True

    @property
    def is_polled(self) -> bool:
        """Whether a poll of its client waits."""
        return self._poll is not None

    @property
    def is_open(self) -> bool:
        """Whether it still carries its connection, and no goodbye was written."""
        return self.is_current and not self._ending

    # The client tries out a WebSocket.

    @property
    def is_upgrading(self) -> bool:
        """Whether its client tries out a WebSocket. Then no poll waits for long."""
        return _now() < self._upgrading_until

    def begin_upgrade(self) -> bool:
        """Let no poll wait from now on, because the client ends polling before it goes over to a WebSocket.

        False if it tries out another one already, or if the connection ends.
        """
        if self.is_upgrading or not self.is_open:
            return False
        self._upgrading_until = _now() + UPGRADE_TIMEOUT_S
        if self._poll is not None:
            self._answer_at(self._answers_at)
        return True

    def end_upgrade(self) -> None:
        """Let polls wait again."""
        self._upgrading_until = 0.0

    # connection.EngineCarrier.

    @property
    def writer(self) -> Writer:
        return CALLING

    @property
    def target(self) -> Target:
        """The connection's, so that what is queued when it changes its carrier goes to the next one."""
        return self.engine.write

    @property
    def is_full(self) -> bool:
        return self.kept_bytes >= FULL_BYTES

    def write(self, data: bytes) -> None:
        if self._ending:
            return
        was_full = self.is_full
        self._keep(data)
        if self.kept_bytes > MAX_KEPT_BYTES:
            self._ending = True
            # Not now, because a session may be in the middle of its own work.
            asyncio.get_running_loop().call_soon(self._break, f"over {MAX_KEPT_BYTES} bytes that it does not poll for")
        elif self.is_full and not was_full:
            self.full()

    def take(self) -> bytes:
        kept = b"".join(self._kept)
        self._kept.clear()
        self.kept_bytes = 0
        self._carriers.remove(self)
        if self._poll is not None:
            self._answer(NOOP)
        return kept

    def end(self, error: BeaconfireError | None = None) -> None:
        """Answer the next poll with the rest and a close packet, if it comes soon."""
        if not self._ending:
            self._keep(CLOSE)
            self._ending = True
            self.gateway.timers.after(CLOSE_TIMEOUT_S, Call(self.abort))

    def abort(self) -> None:
        """End at once. A waiting poll is answered with what an answer takes, or with a close packet."""
        if not self._carriers.remove(self):
            return  # it has ended, or its connection has gone on
        self._ending = True
        if self._poll is not None:
            self._answer(self._take_some() or CLOSE)
        self._kept.clear()
        self.gone()

    def _leave(self) -> None:
        """Its client has closed the connection."""
        self.lost()
        if self._poll is not None:
            self._answer(NOOP)
        self.abort()

    def _break(self, why: str) -> None:
        """End the connection, because the client broke Engine.IO or was lost."""
        log.info("broken polling", connection=self.id, reason=why)
        self.abort()

    # Answering.

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self.kept_bytes += len(data)
        if self._poll is not None:
            self._answer_at(self._answers_at)

    def _answer_at(self, due: float) -> None:
        """Answer the poll at this time, and not before the next turn of the loop: with all that comes in this one."""
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._answer_poll)

    def _answer_poll(self) -> None:
        was_full = self.is_full
        self._answer(self._take_some() or NOOP)
        if self._ending and not self._kept:
            self.abort()
        elif was_full and not self.is_full:
            self.drained()

    def _answer(self, frames: bytes) -> None:
        answer = self._poll
        assert answer is not None
        self._forget_poll()
        answer(Answer(200, payload_of(frames)))

    def _forget_poll(self) -> None:
        self._poll = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_some(self) -> bytes:
        """Take what was written, in order: all of it, or as many writes as an answer may have.

        A close packet goes alone. A client of `socket.io-client` that finds one behind events keeps the events for its
        next connection, and connects with the offset before them. So it would have them twice.
        """
        size = count = 0
        while count < len(self._kept) and (not count or self._goes_with(size, self._kept[count])):
            size += len(self._kept[count])
            count += 1
        taken, self._kept = self._kept[:count], self._kept[count:]
        self.kept_bytes -= size
        return b"".join(taken)

    def _goes_with(self, size: int, data: bytes) -> bool:
        """Whether a write goes into the same answer as `size` bytes before it."""
        return size + len(data) <= ANSWER_BYTES and data != CLOSE


def _now() -> float:
    return asyncio.get_running_loop().time()

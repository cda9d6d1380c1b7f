"""Ask the process that has a connection about it, and answer such questions of other processes.

Unlike `relay`, whose questions these are, it knows connections: the sid says which process to ask, and seals the text.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from beaconfire_gateway.transports.relay import FOREIGN, OwnerGone, Question, Relay
from beaconfire_gateway.transports.socketio.polling_carrier import Carriers, PollingCarrier
from beaconfire_gateway.transports.socketio.sealed import NAME_CHARS, Unreadable, name_of, process_of, seal, unseal
from beaconfire_kit import logs

log = logs.get(__name__)

_ASKER_CHARS, _NUMBER_BYTES = 16, 8
"""Before the text of a question: which process asks it, and its number among all questions of that process."""
FAILED = b""
"""An answer that tells the asker no more than that there is none."""


class Asked:
    """A question about a connection. Answer it once, now or later."""

    __slots__ = ("_question", "_sid", "_told", "text")

    def __init__(self, question: Question, sid: str, sealed: bytes, text: bytes) -> None:
        self._question = question
        self._sid = sid
        self._told = sealed
        self.text = text

    def answer(self, text: bytes) -> None:
        """Answer it. A second answer is not sent."""
        self._question.answer(seal(self._sid, text, self._told))

    def fail(self) -> None:
        """Answer that there is no answer: the asker's client has to connect again."""
        self._question.answer(FAILED)

    def when_abandoned(self, callback: Callable[[], object]) -> None:
        """Call back if nobody waits for the answer any more."""
        self._question.on_abandoned = callback


Handler: TypeAlias = Callable[[PollingCarrier, Asked], None]


class Questions:
    """See the module. One for each gateway process, whose connections are those of `carriers`."""

    def __init__(self, relay: Relay, process_id: str, carriers: Carriers) -> None:
        self._relay = relay
        self._process_id = process_id
        self._carriers = carriers
        self._number = 0

    async def ask(self, sid: str, call: str, text: bytes, *, timeout_s: float) -> bytes | None:
        """Return the answer of the process that has the connection. None if there is none, as the connection is gone.

        It is also gone if the answer may be lost: then the client has to connect again.
        """
        owner = process_of(sid)
        if owner is None or owner == self._process_id:
            return None
        self._number += 1
        numbered = self._process_id.encode() + self._number.to_bytes(_NUMBER_BYTES, "big") + text
        sealed = seal(sid, numbered, call.encode())
        try:
            answer = await self._relay.ask(owner, call, name_of(sid).encode() + sealed, timeout_s=timeout_s)
            return unseal(sid, answer, sealed)
        except (OwnerGone, Unreadable) as failed:
            log.info("could not relay a request", call=call, reason=str(failed))
            return None

    def answers(self, call: str, handler: Handler) -> None:
        """Have questions of other processes answered by `handler`."""
        self._relay.answers(call, partial(self._hear, call, handler))

    def _hear(self, call: str, handler: Handler, question: Question) -> None:
        name, sealed = question.body[:NAME_CHARS], question.body[NAME_CHARS:]
        carrier = self._carriers.named(name.decode())
        if carrier is None:
            question.answer(FAILED)
            return
        try:
            numbered = unseal(carrier.sid, sealed, call.encode())
        except Unreadable:
            numbered = b""
        asker, rest = numbered[:_ASKER_CHARS], numbered[_ASKER_CHARS:]
        number, text = rest[:_NUMBER_BYTES], rest[_NUMBER_BYTES:]
        if not numbered or not carrier.is_new_question(asker, number):
            FOREIGN.inc()
            question.answer(FAILED)
            return
        handler(carrier, Asked(question, carrier.sid, sealed, text))

"""Ask the gateway process that has a connection, over NATS, and answer when another process asks.

    asker                                                     owner
      ── $BEACONFIRE.gateway.<owner>.ask.<call> ───────────▶   the handler of the call, which answers at once or later
      ◀── $BEACONFIRE.gateway.<asker>.answer.<question> ───
      ── $BEACONFIRE.gateway.<owner>.abandon.<question> ───▶   the asker no longer waits

A process may have several thousand questions open, each for as long as a long poll. A question is a future for its
asker, and an object for its owner, and neither has a task. While it waits for an owner, a process asks it once a second
whether it is alive. So a dead owner costs its clients a second, and a frozen one `SILENT_S`.

Nothing here is sent twice. After `OwnerGone` the asker does not know whether the owner has answered: it must end the
connection that it asked about.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import nats.errors

from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.seams.nats_direct import DirectClient

log = logs.get(__name__)

QUESTIONS = metrics.Counter(
    "beaconfire_gateway_relayed_questions_total",
    "Questions to other gateway processes about connections that they have, by call and result.",
    ["call", "result"],
)
FOREIGN = metrics.Counter(
    "beaconfire_gateway_forged_relay_messages_total",
    "Messages on a gateway process's own subjects that no gateway sent. They were dropped.",
)

ALIVE_EVERY_S = 1.0
SILENT_S = 3.0
"""An owner that does not say that it is alive for so long is taken for gone."""
MAX_BYTES = 196_608
"""The most bytes of a question or an answer. The broker's limit for a message is 256 KiB (deploy/nats)."""
_ALIVE = "alive"
_NO_RESPONDERS = b"NATS/1.0 503"
"""How the server answers if no process subscribes to a question's subject."""
_PREFIX = broker.GATEWAY_PREFIX.encode()
_reply = re.compile(re.escape(_PREFIX) + rb"[0-9a-f]{1,32}\.answer\.[0-9a-f]{32}").fullmatch


class OwnerGone(Exception):
    """The owner is gone or frozen, failed, or cannot be reached. The question may have reached it."""


class Question:
    """A question of another process, for its owner: answer it once. `on_abandoned` is called if it need not be."""

    __slots__ = ("_answer", "body", "on_abandoned")

    def __init__(self, body: bytes, answer: Callable[[bytes], None]) -> None:
        self._answer = answer
        self.body = body
        self.on_abandoned: Callable[[], object] = lambda: None

    def answer(self, body: bytes) -> None:
        """Answer it, with 1 to MAX_BYTES bytes. A second answer is not sent."""
        self._answer(body)


Handler: TypeAlias = Callable[[Question], None]


class _Waiting:
    """A question of this process that waits for its answer."""

    __slots__ = ("answer", "at", "owner")

    def __init__(self, owner: str, answer: asyncio.Future[bytes], at: float) -> None:
        self.owner = owner
        self.answer = answer
        self.at = at


class Relay:
    """See the module. One for each gateway process. `spawn` runs short sends, and owns them."""

    def __init__(
        self, nc: DirectClient, process_id: str, *, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._nc = nc
        self._spawn = spawn
        self._process_id = process_id
        self._own = f"{broker.GATEWAY_PREFIX}{process_id}."
        self._prefix = self._own.encode()
        self._handlers: dict[str, Handler] = {_ALIVE: lambda question: question.answer(b"alive")}
        self._asked: dict[str, _Waiting] = {}
        """By the question's random name."""
        self._questions: dict[str, Question] = {}
        """Questions of others that wait for our answer, by name."""
        self._checking: set[str] = set()
        """The owners that are being asked whether they are alive."""

    def answers(self, call: str, handler: Handler) -> None:
        """Have the questions of a call answered by `handler`."""
        self._handlers[call] = handler

    async def subscribe(self) -> None:
        """Hear questions and answers from now on."""
        await self._nc.subscribe_direct(f"{self._own}>", self._hear)
        log.info("hearing other gateway processes", process=self._process_id)

    async def ask(self, owner: str, call: str, body: bytes, *, timeout_s: float) -> bytes:
        """Return the owner's answer. If the caller is cancelled, the owner learns that nobody waits any more.

        Raises OwnerGone.
        """
        name = secrets.token_hex(16)
        asked = _Waiting(owner, asyncio.get_running_loop().create_future(), time.monotonic())
        self._asked[name] = asked
        result = "failed"
        try:
            async with asyncio.timeout(timeout_s):
                await self._publish(f"{broker.GATEWAY_PREFIX}{owner}.ask.{call}", body, f"{self._own}answer.{name}")
                answer = await asked.answer
            result = "answered"
            return answer
        except TimeoutError:
            raise OwnerGone(f"no answer within {timeout_s} s") from None
        except asyncio.CancelledError:
            result = "abandoned"
            raise
        finally:
            del self._asked[name]
            QUESTIONS.labels(call, result).inc()
            if result != "answered":
                self._spawn(self._send(f"{broker.GATEWAY_PREFIX}{owner}.abandon.{name}", b""))

    async def run(self) -> None:
        """Notice owners that are gone, as long as questions wait for them."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(ALIVE_EVERY_S)
                before = time.monotonic() - ALIVE_EVERY_S
                for owner in {one.owner for one in self._asked.values() if one.at <= before} - self._checking:
                    self._checking.add(owner)
                    tasks.create_task(self._check(owner))

    def reconnected(self) -> None:
        """Give up every question: the connection to the broker was lost, and answers with it."""
        self._fail({one.owner for one in self._asked.values()}, "the broker was away")

    # Asking.

    async def _check(self, owner: str) -> None:
        """Ask an owner whether it is alive. If not, fail what waits for it."""
        try:
            await self.ask(owner, _ALIVE, b"", timeout_s=SILENT_S)
        except OwnerGone as gone:
            log.warning("another gateway process does not answer", process=owner, reason=str(gone))
            self._fail({owner}, str(gone))
        finally:
            self._checking.discard(owner)

    def _fail(self, owners: set[str], reason: str) -> None:
        for one in self._asked.values():
            if one.owner in owners and not one.answer.done():
                one.answer.set_exception(OwnerGone(reason))

    async def _publish(self, subject: str, body: bytes, reply: str = "") -> None:
        """Raises OwnerGone."""
        if not self._nc.is_connected:
            raise OwnerGone("the broker is away")
        try:
            await self._nc.publish(subject, body, reply)
        except (nats.errors.Error, OSError, RuntimeError) as error:  # nats-py may write to a transport that is gone
            raise OwnerGone(type(error).__name__) from None

    async def _send(self, subject: str, body: bytes) -> None:
        """Publish something that may be lost."""
        try:
            await self._publish(subject, body)
        except OwnerGone as gone:
            log.warning("could not send to another gateway process", reason=str(gone))

    # Hearing.

    def _hear(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        if not subject.startswith(self._prefix):  # a stored message that a consumer delivers here (SECURITY.md, T11)
            FOREIGN.inc()
            return
        kind, _, name = subject[len(self._prefix) :].decode(errors="replace").partition(".")
        if kind == "answer" and name in self._asked:
            self._hear_answer(self._asked[name], body, headers)
        elif kind == "ask":
            self._hear_question(name, reply, body)
        elif kind == "abandon" and (question := self._questions.pop(name, None)) is not None:
            question.on_abandoned()

    def _hear_answer(self, asked: _Waiting, body: bytes, headers: bytes | None) -> None:
        if asked.answer.done():
            return
        if headers is not None and headers.startswith(_NO_RESPONDERS):
            asked.answer.set_exception(OwnerGone("no such process"))
        elif not body:
            asked.answer.set_exception(OwnerGone("it could not answer"))
        else:
            asked.answer.set_result(body)

    def _hear_question(self, call: str, reply: bytes, body: bytes) -> None:
        if not _reply(reply):  # answers go to gateways alone, whatever a forged question asks for
            FOREIGN.inc()
            return
        address = reply.decode()
        name = address.rpartition(".")[2]
        question = self._questions[name] = Question(body, lambda answer: self._answer(name, address, answer))
        handler = self._handlers.get(call)
        if handler is None:  # a gateway of a later version asks
            question.answer(b"")
            return
        try:
            handler(question)
        except Exception:
            log.exception("could not answer another gateway process", call=call)
            question.answer(b"")

    def _answer(self, name: str, address: str, body: bytes) -> None:
        if self._questions.pop(name, None) is not None:
            if len(body) > MAX_BYTES:
                log.error("an answer to another gateway process is too large", bytes=len(body))
                body = b""
            self._spawn(self._send(address, body))

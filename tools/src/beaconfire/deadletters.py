"""Read dead letters, the messages that gateways set aside as invalid events, from the stream DEADLETTERS."""

import asyncio
import contextlib
import json
import re
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext
from rich.console import Console
from rich.text import Text

from beaconfire.listening import printable
from beaconfire_kit import broker
from beaconfire_kit.invalid_event import REASONS
from beaconfire_kit.logs import blank
from beaconfire_kit.seams.nats_connection import PublishDenied
from beaconfire_kit.settings import Settings

TIMEOUT_S = 10.0
BATCH = 100
WAIT_S = 5.0
"""How long one request for new letters waits before the next one follows."""
AGAIN_AFTER_S = 0.2
EXCERPT = 200


class CannotRead(Exception):
    """The dead letters could not be read. The text contains the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was set aside, and why."""

    number: int
    """Its sequence number among the dead letters."""
    time: str
    reason: str
    subject: str
    offset: int | None
    """Its offset in the event stream; None for an ephemeral event."""
    detail: str
    bytes: int
    body: str
    """As text, with everything that looks like a secret blanked."""

    @classmethod
    def of(cls, message: Msg) -> "Letter":
        headers = message.headers or {}
        offset = headers.get("Beaconfire-Offset")
        return cls(
            number=message.metadata.sequence.stream,
            time=message.metadata.timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            reason=message.subject.removeprefix(broker.DEADLETTER_PREFIX),
            subject=headers.get("Beaconfire-Subject", ""),
            offset=int(offset) if offset and offset.isdecimal() else None,
            detail=headers.get("Beaconfire-Detail", ""),
            bytes=int(headers.get("Beaconfire-Bytes", len(message.data))),
            body=without_secrets(message.data.decode(errors="replace")),
        )


Printer = Callable[[Letter], None]


async def read(settings: Settings, printer: Printer, *, last: int, reason: str | None, follow: bool) -> int:
    """Print the newest `last` letters, oldest first. Return how many there are.

    With `follow`, print each new letter afterwards, forever.

    Raises CannotRead.
    """
    if reason is not None and reason not in REASONS:
        raise CannotRead(f"{reason!r} is not a reason. The reasons are {', '.join(REASONS)}")
    async with connected(settings) as nc:
        newest: deque[Letter] = deque(maxlen=last)
        count = number = 0
        with explaining(settings):
            async for message in there(nc, reason):
                number = message.metadata.sequence.stream
                newest.append(Letter.of(message))
                count += 1
        for letter in newest:
            printer(letter)
        if follow:
            async for message in _new(nc, reason, number):
                printer(Letter.of(message))
        return count


def print_json(letter: Letter) -> None:
    """Print the letter as one line of JSON, with its whole body."""
    print(json.dumps(asdict(letter), separators=(",", ":"), ensure_ascii=False), flush=True)


def print_readable(letter: Letter) -> None:
    """Print number, time, reason and place in one line, the details in the next, then the beginning of the body."""
    console = Console(highlight=False)
    where = f"offset {letter.offset}" if letter.offset is not None else "ephemeral"
    head = Text(f"{letter.number}  ", style="bold").append(f"{letter.time}  ", style="dim")
    head.append(letter.reason, style="bold red").append(f"  {printable(letter.subject)}", style="bold")
    head.append(f"  {where}, {letter.bytes} bytes", style="dim")
    console.print(head, soft_wrap=True)
    console.print(Text(f"    {printable(letter.detail)}"), soft_wrap=True)
    console.print(Text(f"    {REASONS.get(letter.reason, '')}", style="dim"), soft_wrap=True)
    console.print(Text(f"    {_excerpt(letter.body)}", style="cyan"), soft_wrap=True)


_SECRET_MEMBER = re.compile(
    # Bounded, so that no body takes long.
    r'("[^"]{0,80}(?:token|password|secret|authorization|cookie|api_?key)[^"]{0,80}"\s{0,9}:\s{0,9})'
    r'("(?:[^"\\]|\\.)*"?|[^\s,}\]]+)',
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """Blank everything that looks like a secret: members of JSON with such a name, JWTs, bearer tokens."""
    return blank(_SECRET_MEMBER.sub(r'\1"[redacted]"', text))


async def there(nc: Client, reason: str | None, *, after: int = 0) -> AsyncIterator[Msg]:
    """Yield the existing letters after number `after`, oldest first."""
    async with consumer(nc, reason, after=after) as (letters, pending):
        while pending > 0:
            for message in await letters.fetch(min(BATCH, pending), timeout=TIMEOUT_S):
                pending = message.metadata.num_pending
                yield message


async def _chosen(nc: Client, numbers: Iterable[int]) -> AsyncIterator[Msg]:
    """Yield the letters that have these numbers, in order."""
    for number in numbers:
        async with consumer(nc, None, after=number - 1) as (letters, pending):
            for message in await letters.fetch(1, timeout=WAIT_S) if pending else ():
                if message.metadata.sequence.stream == number:
                    yield message


async def batches(
    nc: Client, wanted: Sequence[int] | None, reason: str | None, after: int
) -> AsyncIterator[Sequence[Msg]]:
    """Yield the letters with these numbers, in order, `BATCH` at a time. None means all, or all with this reason."""
    batch: list[Msg] = []
    async for message in there(nc, reason, after=after) if wanted is None else _chosen(nc, wanted):
        batch.append(message)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def delete(nc: Client, number: int) -> str | None:
    """Delete a letter. Return why that failed, or None."""
    request = json.dumps({"seq": number, "no_erase": True}).encode()
    try:
        answer = await nc.request(f"$JS.API.STREAM.MSG.DELETE.{broker.DEADLETTERS}", request, timeout=WAIT_S)
    except PublishDenied:
        return "the broker user may not delete dead letters: reload the broker with the configuration of this version"
    except nats.errors.Error as error:
        return f"the broker did not answer ({type(error).__name__}): try again"
    refused = json.loads(answer.data).get("error")
    return f"the broker refused it: {refused.get('description')}" if refused else None


async def _new(nc: Client, reason: str | None, after: int) -> AsyncIterator[Msg]:
    """Yield each new letter after number `after`, forever, through restarts of the broker."""
    while True:
        try:
            async with consumer(nc, reason, after=after) as (letters, _):
                while True:
                    for message in await letters.fetch(1, timeout=WAIT_S):
                        after = message.metadata.sequence.stream
                        yield message
        except nats.errors.Error:
            # No message came for a while, or the broker was away and lost the consumer. A new one is cheap.
            await asyncio.sleep(AGAIN_AFTER_S)


@asynccontextmanager
async def consumer(
    nc: Client, reason: str | None, *, after: int
) -> AsyncIterator[tuple[JetStreamContext.PullSubscription, int]]:
    """Create a consumer of the letters after number `after`. Yield it and the number of letters."""
    js = nc.jetstream(timeout=TIMEOUT_S)
    config = ConsumerConfig(
        name=f"cli-{uuid.uuid4().hex[:12]}",
        filter_subject=f"{broker.DEADLETTER_PREFIX}{reason or '>'}",
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        mem_storage=True,
        inactive_threshold=2 * WAIT_S,  # the server removes it then
    )
    created = await js.add_consumer(broker.DEADLETTERS, config=config)
    subscription = await js.pull_subscribe_bind(created.name, stream=broker.DEADLETTERS)
    try:
        yield subscription, created.num_pending or 0
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """Connect to the broker. Raises CannotRead if it does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            nc = await broker.connect(settings, "cli", on_closed=lambda: None)
    except TimeoutError:
        raise CannotRead(no_answer(settings)) from None
    try:
        yield nc
    finally:
        await broker.close(nc)


@contextmanager
def explaining(settings: Settings) -> Iterator[None]:
    """Raise CannotRead, with a sentence, for what the broker says about the dead letters."""
    try:
        yield
    except nats.js.errors.NotFoundError:
        raise CannotRead("the broker has no stream for dead letters yet: run `beaconfire setup`") from None
    except PublishDenied:
        raise CannotRead(
            f"the broker user {settings.nats_user} may not read the dead letters: connect as operator "
            "(BEACONFIRE_NATS_USER, BEACONFIRE_NATS_PASSWORD)"
        ) from None
    except nats.errors.Error:
        raise CannotRead(no_answer(settings)) from None


def no_answer(settings: Settings) -> str:
    """Return a sentence about a broker that does not answer."""
    return (
        f"{settings.nats_url} did not answer within {TIMEOUT_S:.0f} s: is the address right, "
        "and does the broker run with JetStream?"
    )


def _excerpt(body: str) -> str:
    """Return the beginning of the body on one line."""
    return printable(body[:EXCERPT]) + ("…" if len(body) > EXCERPT else "")

"""Publish dead letters again after their cause was fixed: `beaconfire deadletters --replay`, and the admin page.

Each event is checked as at its first publication, against the catalogue that counts now, and gets a new offset. It is
stored once, however often and by whomever it is replayed: its `Nats-Msg-Id` is that of the dead letter, and older
messages are looked up in the stream. A letter that was replayed is deleted.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from nats.aio.client import Client
from nats.aio.msg import Msg
from rich.console import Console

from beaconfire.broker_users import PUBLISHER
from beaconfire.deadletters import CannotRead, Letter, batches, connected, delete, explaining, no_answer
from beaconfire.publishing import newest_catalogue
from beaconfire.tables import listing, print_table
from beaconfire_kit import broker, logs, lookup
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.reading import ReadFailed
from beaconfire_kit.settings import Settings
from beaconfire_kit.subjects import InvalidSubject, is_membership, parse_subject

log = logs.get(__name__)

TIMEOUT_S = 60.0
MAX_AT_ONCE = 1_000
"""Letters that one call looks at, the oldest first."""
AGAIN_AFTER_S = 0.2
GONE = "there is no such dead letter any more"

Result = Literal["replayed", "already_replayed", "still_invalid", "not_replayable", "refused", "dropped", "gone"]
DONE: frozenset[Result] = frozenset({"replayed", "already_replayed", "dropped"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one dead letter."""

    number: int
    subject: str
    result: Result
    offset: int | None
    """Where the event is now, if it was replayed."""
    why: str
    """Why not, or empty."""

    @property
    def is_done(self) -> bool:
        """Whether it was replayed or dropped, as the operator wants."""
        return self.result in DONE


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of the letters, the oldest first."""

    outcomes: Sequence[Outcome]
    more_after: int | None = None
    """If there are more letters than one call looks at, the number after which they begin."""


async def replay(
    settings: Settings, publisher: Settings, numbers: Sequence[int] | None, *, reason: str | None = None, after: int = 0
) -> Handled:
    """Replay the dead letters with these numbers. None means all of them, or all with this reason.

    `settings` read and delete dead letters (the broker user `operator`), and `publisher` publishes. `after` continues
    an earlier call. Raises CannotRead, CannotPublish, and the errors of the catalogue's store.
    """
    outcomes: list[Outcome] = []
    wanted = None if numbers is None else sorted({number for number in numbers if number > after})
    try:
        async with asyncio.timeout(TIMEOUT_S), connected(settings) as reader, connected(publisher) as sender:
            replayer = _Replayer(reader, sender, await newest_catalogue(sender))
            with explaining(settings):
                async for batch in batches(reader, wanted, reason, after):
                    outcomes += await replayer.replay(batch)
                    if len(outcomes) >= MAX_AT_ONCE:
                        return Handled(outcomes, more_after=outcomes[-1].number)
    except TimeoutError:
        raise CannotRead(no_answer(settings)) from None
    missing = sorted(set(wanted or ()) - {one.number for one in outcomes})
    return Handled([*outcomes, *(_not(number, "", "gone", GONE) for number in missing)])


async def replay_all(
    settings: Settings, publisher: Settings, numbers: Sequence[int] | None, *, reason: str | None
) -> Sequence[Outcome]:
    """Replay as `replay` does, however many letters there are."""
    replayed = await replay(settings, publisher, numbers, reason=reason)
    outcomes = [*replayed.outcomes]
    while replayed.more_after is not None:
        replayed = await replay(settings, publisher, numbers, reason=reason, after=replayed.more_after)
        outcomes += replayed.outcomes
    return outcomes


def print_json(outcomes: Sequence[Outcome]) -> None:
    """Print what became of each letter as one JSON object."""
    print(json.dumps({"outcomes": [asdict(one) for one in outcomes]}))


def print_readable(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print a table of what became of each letter."""
    rows = [
        (str(one.number), one.subject, one.result.replace("_", " "), f"offset {one.offset}" if one.offset else one.why)
        for one in outcomes
    ]
    if rows:
        print_table(listing(["letter", "subject", "result", ""], rows, whole=["letter"]), console)


class _Replayer:
    """Replays letters that `reader` may delete, as `sender`, if `catalogue` says that they are valid now."""

    def __init__(self, reader: Client, sender: Client, catalogue: Catalogue) -> None:
        self._reader = reader
        self._sender = sender
        self._catalogue = catalogue

    async def replay(self, messages: Sequence[Msg]) -> Sequence[Outcome]:
        earlier = await self._find_earlier([one for one in messages if why_never(one) is None])
        return [await self._replay(message, earlier) for message in messages]

    async def _find_earlier(self, messages: Sequence[Msg]) -> Mapping[str, int]:
        """Return the offsets of earlier replays of these letters, by message id."""
        if not messages:
            return {}
        subjects = {Letter.of(one).subject for one in messages}
        since = min(one.metadata.timestamp for one in messages)
        while True:
            try:
                return await lookup.find(self._sender, PUBLISHER, subjects, since=since)
            except ReadFailed as error:  # the publisher's relay may look something up at the same moment
                log.debug("looking up again", error=str(error))
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _replay(self, message: Msg, earlier: Mapping[str, int]) -> Outcome:
        letter = Letter.of(message)
        if (never := why_never(message)) is not None:
            return _not(letter.number, letter.subject, "not_replayable", never)
        message_id = f"replay-{(message.headers or {})['Nats-Msg-Id']}"
        offset = earlier.get(message_id)
        result: Result = "replayed" if offset is None else "already_replayed"
        if offset is None:
            try:
                self._catalogue.check(letter.subject, message.data)
                offset = await broker.publish(self._sender, letter.subject, message.data, message_id=message_id)
            except InvalidEvent as error:
                return _not(letter.number, letter.subject, "still_invalid", str(error))
            except broker.BrokerRefused as error:
                return _not(letter.number, letter.subject, "refused", str(error))
            log.info("an operator replayed a dead letter", number=letter.number, subject=letter.subject, offset=offset)
        if (why := await delete(self._reader, letter.number)) is not None:  # a later replay finds that it is stored
            log.warning("a replayed dead letter could not be deleted", number=letter.number, why=why)
        return Outcome(letter.number, letter.subject, result, offset, "")


def why_never(message: Msg) -> str | None:
    """Return why a letter can never be replayed, or None if it may be valid some day."""
    letter = Letter.of(message)
    if letter.offset is None:
        return "ephemeral events are not replayed: they were only of use at their moment"
    if letter.bytes > len(message.data):
        return f"only its first {len(message.data)} bytes were kept: its publisher has to send it again"
    try:
        parse_subject(letter.subject)
    except InvalidSubject as error:
        return f"no event can have its subject: {error}"
    if is_membership(letter.subject):
        return "only auth publishes membership changes: change the membership there"
    return None


def _not(number: int, subject: str, result: Result, why: str) -> Outcome:
    return Outcome(number, subject, result, None, why)

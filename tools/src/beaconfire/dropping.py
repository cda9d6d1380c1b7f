"""Delete dead letters that will not be replayed: `beaconfire deadletters --drop`, and the admin page.

Each deletion is logged with the letter's number and subject, with who deleted it and why. Its body is in no log.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from nats.aio.client import Client
from nats.aio.msg import Msg

from beaconfire.deadletters import CannotRead, Letter, batches, connected, delete, explaining, no_answer
from beaconfire.replaying import GONE, MAX_AT_ONCE, TIMEOUT_S, Handled, Outcome
from beaconfire_kit import logs
from beaconfire_kit.settings import Settings

log = logs.get(__name__)


async def drop(
    settings: Settings,
    numbers: Sequence[int] | None,
    *,
    why: str,
    by: str,
    reason: str | None = None,
    after: int = 0,
) -> Handled:
    """Delete the dead letters with these numbers. None means all of them, or all with this reason.

    `why` and `by` (an operator) are for the log. `settings` delete them (the broker user `operator`). `after` continues
    an earlier call. Raises CannotRead.
    """
    outcomes: list[Outcome] = []
    wanted = None if numbers is None else sorted({number for number in numbers if number > after})
    try:
        async with asyncio.timeout(TIMEOUT_S), connected(settings) as nc:
            with explaining(settings):
                async for batch in batches(nc, wanted, reason, after):
                    outcomes += [await _drop(nc, message, why, by) for message in batch]
                    if len(outcomes) >= MAX_AT_ONCE:
                        return Handled(outcomes, more_after=outcomes[-1].number)
    except TimeoutError:
        raise CannotRead(no_answer(settings)) from None
    missing = sorted(set(wanted or ()) - {one.number for one in outcomes})
    return Handled([*outcomes, *(Outcome(number, "", "gone", None, GONE) for number in missing)])


async def drop_all(
    settings: Settings, numbers: Sequence[int] | None, *, why: str, by: str, reason: str | None
) -> Sequence[Outcome]:
    """Delete as `drop` does, however many letters there are."""
    dropped = await drop(settings, numbers, why=why, by=by, reason=reason)
    outcomes = [*dropped.outcomes]
    while dropped.more_after is not None:
        dropped = await drop(settings, numbers, why=why, by=by, reason=reason, after=dropped.more_after)
        outcomes += dropped.outcomes
    return outcomes


async def _drop(nc: Client, message: Msg, why: str, by: str) -> Outcome:
    letter = Letter.of(message)
    outcome = Outcome(letter.number, letter.subject, "dropped", None, "")
    if (problem := await delete(nc, letter.number)) is not None:
        return replace(outcome, result="refused", why=problem)
    log.info(
        "an operator dropped a dead letter",
        number=letter.number,
        subject=letter.subject,
        reason=letter.reason,
        why=why,
        by=by,
    )
    return outcome

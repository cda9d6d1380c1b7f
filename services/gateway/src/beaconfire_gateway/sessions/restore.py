"""What a subscribe with a cursor gets first: everything since then, in the rooms it asks for alone. No I/O."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from beaconfire_gateway.fanout.ring import Entry
from beaconfire_gateway.fanout.selection import select
from beaconfire_gateway.sessions.catchup import PAGE
from beaconfire_gateway.sessions.context import Context, HistoryGone
from beaconfire_gateway.sessions.place import Place, heard
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.wire import protocol
from beaconfire_gateway.wire.protocol import Subscribe
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason


async def restore(
    session: Session, message: Subscribe
) -> tuple[Mapping[str, Place | BeaconfireError], ResyncReason | None]:
    """Decide about the rooms, once everything since the cursor was written, in these rooms alone.

    Returns in the turn of the loop in which that is so, with why it could not be, if it could not. A room that is
    asked for again is left meanwhile: what is new in it comes restored, too. Raises BeaconfireError where nothing can
    be decided.
    """
    assert session.claims is not None
    context = session.context
    types = select(message.types)
    offset, trouble = context.find_place(message.cursor)
    if message.cursor is not None:
        for name in set(session.rooms) & set(message.rooms):
            session.leave(name)
    page: tuple[Sequence[Entry], int] | None = None
    refused: dict[str, BeaconfireError] = {}
    while True:
        # Asked after each wait: membership may have changed. Mostly it is remembered, and takes no time.
        # A room that was refused once stays refused: some of its events have been passed over by then.
        decisions = {**await context.access.decide(session.claims, message.rooms), **refused}
        refused |= {name: place for name, place in decisions.items() if isinstance(place, BeaconfireError)}
        places = {name: replace(place, types=types) for name, place in decisions.items() if isinstance(place, Place)}
        if message.cursor is None or trouble is not None or not places or session.state is State.CLOSED:
            return {**decisions, **places}, trouble
        if context.read_cursor(message.cursor) is None:
            trouble = ResyncReason.EPOCH_CHANGED
        elif session.state is State.CATCHING_UP:  # its socket is full
            await session.woken()
        elif page is not None:
            offset = _write(session, message, places, *page)
            page = None
            await _written(context)
        elif not context.ring.covers(offset):
            roots = {place.room.root for place in places.values()}
            try:
                entries, through = await context.history.page(roots, offset, context.ring)
                page = entries, min(through, context.position)
            except HistoryGone:
                trouble = ResyncReason.NOT_RESUMABLE
        elif newer := context.ring.after(offset, PAGE):
            page = newer, newer[-1].offset
        else:
            return {**decisions, **places}, None


def _write(
    session: Session, message: Subscribe, places: Mapping[str, Place], entries: Sequence[Entry], through: int
) -> int:
    """Write some of these entries, which are all there are up to `through`. Returns the offset it got to."""
    mine, through = heard(entries, through, places.values())
    if mine:
        session.tell(protocol.restored(message.id, places, mine))
    return through


async def _written(context: Context[Any]) -> None:
    """Wait until what is queued is written, and for a turn: long replays of many delay nobody else."""
    loop = asyncio.get_running_loop()
    written, turn = loop.create_future(), loop.create_future()
    context.outbound.after(lambda: _resolve(written))
    await written
    context.pace.take(lambda: _resolve(turn))
    await turn


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():  # who waited for it may have been cancelled
        future.set_result(None)

"""Restore the rooms of a `subscribe` with a cursor: send their events since then before the reply. No I/O."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from beaconfire_gateway.fanout.conflation import Latest
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.wanted_types import select
from beaconfire_gateway.sessions.catchup import PAGE
from beaconfire_gateway.sessions.gateway import Gateway, HistoryGone, catalogue_with
from beaconfire_gateway.sessions.reread import may_lack, reread
from beaconfire_gateway.sessions.room_limits import Decisions, within_limits
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import WRITE_BYTES, Subscription, heard
from beaconfire_gateway.wire.messages import Restored, Subscribe
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncCause


async def restore(session: Session, request: Subscribe) -> tuple[Decisions, ResyncCause | None]:
    """Decide about the rooms, once everything since the cursor was sent, in these rooms alone.

    Returns in the turn of the loop in which that is so; with the cause of a `resync`, if not everything could be sent.
    A room that the session is in already is left meanwhile: its new events come restored, too. Raises BeaconfireError
    if no decision is possible now.
    """
    assert session.claims is not None
    gateway = session.gateway
    types = select(request.types, await catalogue_with(gateway, request.types or ()))
    offset, trouble = gateway.find_start(request.cursor)
    if request.cursor is not None:
        for name in set(session.rooms) & set(request.rooms):
            session.leave(name, for_good=False)
    page: tuple[Sequence[Entry], int] | None = None
    rereads, lacking = True, list[Entry]()
    refused: dict[str, BeaconfireError] = {}
    while True:
        # Asked after each wait, because membership may have changed. Mostly it is remembered, and takes no time.
        # A room that was refused once stays refused: some of its events have been passed over by then.
        decisions = within_limits(session, {**await gateway.access.decide(session.claims, request.rooms), **refused})
        refused |= {name: one for name, one in decisions.items() if isinstance(one, BeaconfireError)}
        wanted = {name: replace(one, types=types) for name, one in decisions.items() if isinstance(one, Subscription)}
        if request.cursor is None or trouble is not None or not wanted or session.state is State.CLOSED:
            return {**decisions, **wanted}, trouble
        if gateway.read_cursor(request.cursor) is None:
            trouble = ResyncCause.STREAM_REPLACED
        elif session.state is State.CATCHING_UP:  # its connection is full
            await session.woken()
        elif rereads and may_lack(gateway, wanted.values()):
            lacking = await reread(gateway, list(wanted.values()), offset)
            rereads = False
        elif lacking:
            lacking = _send_lacking(session, request, wanted, lacking, offset)
            await _written(gateway)
        elif page is not None:
            offset = _send(session, request, wanted, *page)
            page = None
            await _written(gateway)
        elif not gateway.ring.covers(offset):
            roots = {one.room.root for one in wanted.values()}
            try:
                entries, through = await gateway.history.page(roots, offset, gateway.ring)
                page = entries, min(through, gateway.position)
            except HistoryGone as gone:
                trouble = gone.cause
        elif newer := gateway.ring.after(offset, PAGE):
            page = newer, newer[-1].offset
        else:
            return {**decisions, **wanted}, None


def _send(
    session: Session, request: Subscribe, wanted: Mapping[str, Subscription], entries: Sequence[Entry], through: int
) -> int:
    """Send some of these entries, which are all there are up to `through`. Returns the offset it got to."""
    part: list[Entry] = []
    size = 0
    for entry in heard(entries, through, wanted.values()):
        part.append(entry)
        size += session.wire.payload_bytes(entry)
        if size >= WRITE_BYTES:
            through = entry.offset
            break
    if part:
        session.send(Restored(request.id, tuple(wanted), part))
    return through


def _send_lacking(
    session: Session, request: Subscribe, wanted: Mapping[str, Subscription], lacking: Sequence[Entry], offset: int
) -> list[Entry]:
    """Send some of the conflated events that the client may lack, without offsets. Returns the others."""
    cursor, left = session.gateway.cursor(offset), list(heard(lacking, offset, wanted.values()))
    part, size = list[Entry](), 0
    while left and size < WRITE_BYTES:
        part.append(Latest(left.pop(0), cursor))
        size += session.wire.payload_bytes(part[-1])
    if part:
        session.send(Restored(request.id, tuple(wanted), part))
    return left


async def _written(gateway: Gateway) -> None:
    """Wait until everything queued is written, and for a turn: long replays of many sessions delay no others."""
    loop = asyncio.get_running_loop()
    written, turn = loop.create_future(), loop.create_future()
    gateway.outbound.after(lambda: _resolve(written))
    await written
    gateway.steps.add(lambda: _resolve(turn))
    await turn


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():  # the task that waited for it may have been cancelled
        future.set_result(None)

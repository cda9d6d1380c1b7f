"""Read again the conflated events just below a cursor, which its client may lack. No I/O.

A gateway may have held such an event back when it sent a later offset (`fanout.conflation`). The client's cursor does
not tell, so each client that comes back is sent the latest event of each key.
"""

from collections.abc import Iterable, Sequence

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.sessions.gateway import Gateway, HistoryGone
from beaconfire_gateway.sessions.subscription import Subscription, heard
from beaconfire_kit.subjects import Pair


def may_lack(gateway: Gateway, subscriptions: Iterable[Subscription]) -> bool:
    """Whether a client that is in these rooms may lack events below its cursor."""
    return gateway.conflation.concerns(one.room.root.kind for one in subscriptions)


def held_for(gateway: Gateway, subscriptions: Iterable[Subscription]) -> list[Entry]:
    """Return the events that are held now and would go out to these subscriptions, in order."""
    return list(heard(list(gateway.conflation.held()), gateway.position, subscriptions))


def reread_ring(gateway: Gateway, subscriptions: Iterable[Subscription], cursor: int) -> list[Entry] | None:
    """Return the latest conflated events just below a cursor, for these subscriptions. None if the ring lacks some."""
    after = _start(gateway, cursor)
    if not gateway.ring.covers(after):
        return None
    return gateway.conflation.latest(heard(gateway.ring.after(after, cursor - after), cursor, subscriptions))


async def reread(gateway: Gateway, subscriptions: Sequence[Subscription], cursor: int) -> list[Entry]:
    """As `reread_ring`, also from the stream. What the stream no longer has is left out.

    Waits for the broker as long as it takes.
    """
    after, found = _start(gateway, cursor), list[Entry]()
    roots: set[Pair] = {one.room.root for one in subscriptions}
    while after < cursor and not gateway.ring.covers(after):
        try:
            entries, through = await gateway.history.page(roots, after, gateway.ring)
        except HistoryGone as gone:
            if gone.first is None or gone.first - 1 <= after:
                return gateway.conflation.latest(found)
            after = gone.first - 1
        else:
            found += heard(entries, min(through, cursor), subscriptions)
            after = max(through, after + 1)
    if after < cursor:
        found += heard(gateway.ring.after(after, cursor - after), cursor, subscriptions)
    return gateway.conflation.latest(found)


def _start(gateway: Gateway, cursor: int) -> int:
    """The offset behind which an event may have been held when a client was given this cursor."""
    return max(0, cursor - gateway.conflation.held_behind)

"""Follow what the other gateways say about their users. No I/O.

A gateway says something every two seconds at least, with the number of its last changes. If a number is missing, this
gateway asks for everything. A gateway that is silent for too long is gone, and so are its users. Time during which this
process stood still does not count as silence: what others said waits in its socket.
"""

from collections.abc import Iterator

from beaconfire_gateway.presence.messages import Changes, Part, Question, Share
from beaconfire_gateway.presence.own import GRACE_S
from beaconfire_gateway.presence.roster import Roster

HEARTBEAT_S = 2.0
SILENT_S = 12.5
"""After so long without a word, a gateway's users are gone: it is dead, or cut off from the broker. Its clients had
that time to connect to another one. Clients are told within 15 s of the last word (`view.MAX_PAUSE_S`)."""
ASK_AGAIN_S = 1.0
"""How long an answer with everything may take, before it is asked for again."""
MAX_WAITING = 1_000
"""Changes that are kept while everything is on its way. If there are more, it is asked for once more."""
STANDSTILL_S = 1.0
"""A pause between two turns that is longer than this is a standstill of this process."""


class _Peer:
    """Another gateway."""

    __slots__ = ("arrived", "asked_at", "gone_at", "heard_at", "is_known", "number", "parts", "waiting")

    def __init__(self) -> None:
        self.number: int | None = None
        """The number of the last changes that are in the roster. None: everything is asked for."""
        self.heard_at = 0.0
        self.gone_at: float | None = None
        """When its users are gone, if it has said that it stops."""
        self.asked_at = float("-inf")
        self.is_known = False
        """Whether the roster has any of its users."""
        self.parts: list[Part] = []
        self.waiting: list[Changes] = []


class Peers:
    """The other gateways. They are entered into the roster."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._peers: dict[str, _Peer] = {}
        self._turned_at: float | None = None

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def is_complete(self) -> bool:
        """Whether everything is known of each gateway that was heard."""
        return all(peer.number is not None or peer.gone_at is not None for peer in self._peers.values())

    def hear_changes(self, changes: Changes, now: float) -> None:
        """Another gateway says what has changed, or that it is alive."""
        peer = self._hear(changes.gateway, now)
        if changes.is_last:
            peer.gone_at = now + GRACE_S
        elif peer.number is None:
            self._keep(peer, changes)
        elif changes.entries and changes.number == peer.number + 1:
            self._apply(changes.gateway, peer, changes)
        elif changes.number > peer.number:
            peer.number = None
            self._keep(peer, changes)

    def hear_part(self, part: Part, now: float) -> None:
        """Another gateway answers with a part of everything."""
        peer = self._hear(part.gateway, now)
        if peer.number is not None:
            return
        if part.part == 0:
            peer.parts = []
        if part.part != len(peer.parts) or (peer.parts and peer.parts[0].number != part.number):
            peer.parts = []
            return
        peer.parts.append(part)
        if len(peer.parts) >= part.parts:
            parts, peer.parts = peer.parts, []
            self._replace(part.gateway, peer, parts)

    def turn(self, now: float) -> Iterator[Question]:
        """Let silent gateways go. Yields the questions to ask."""
        before, self._turned_at = self._turned_at, now
        stood_still = 0.0 if before is None else now - before
        for gateway, peer in list(self._peers.items()):
            if stood_still > STANDSTILL_S:
                peer.heard_at = min(now, peer.heard_at + stood_still)
            if now >= (peer.heard_at + SILENT_S if peer.gone_at is None else peer.gone_at):
                del self._peers[gateway]
                self._roster.drop(gateway)
            elif peer.number is None and peer.gone_at is None and now >= peer.asked_at + ASK_AGAIN_S:
                peer.asked_at = now
                yield Question(gateway)

    def _hear(self, gateway: str, now: float) -> _Peer:
        peer = self._peers.get(gateway)
        if peer is None:
            peer = self._peers[gateway] = _Peer()
        peer.heard_at = now
        return peer

    def _keep(self, peer: _Peer, changes: Changes) -> None:
        """Keep changes until everything has come."""
        if not changes.entries:
            return
        if len(peer.waiting) >= MAX_WAITING:
            peer.waiting.clear()
        peer.waiting.append(changes)

    def _apply(self, gateway: str, peer: _Peer, changes: Changes) -> None:
        for room, users in changes.entries.items():
            for user, share in users.items():
                self._roster.put(gateway, room, user, share)
        peer.number = changes.number
        peer.is_known = True

    def _replace(self, gateway: str, peer: _Peer, parts: list[Part]) -> None:
        """Enter everything, and then the changes that came since."""
        everything: dict[str, dict[str, Share | None]] = {}
        for part in parts:
            for room, users in part.entries.items():
                everything.setdefault(room, {}).update(users)
        if peer.is_known:
            self._roster.keep_only(gateway, everything)
        self._apply(gateway, peer, Changes(gateway, parts[0].number, everything))
        waiting, peer.waiting = peer.waiting, []
        for changes in waiting:
            self.hear_changes(changes, peer.heard_at)

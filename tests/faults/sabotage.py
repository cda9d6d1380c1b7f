"""Run the gateway without one of its safeguards, to see that the checker notices. `SABOTAGE` names it."""

import asyncio
import os
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from beaconfire_gateway import __main__ as gateway
from beaconfire_gateway.presence.messages import Part, Question
from beaconfire_gateway.presence.own import OwnSessions
from beaconfire_gateway.presence.peers import Peers
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.stream.intake import Event, Intake
from beaconfire_gateway.stream.sequence import Sequence
from beaconfire_gateway.transports.socketio.recovery import Kept, Recovery
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.timeline import Timeline


def _without_resume() -> None:
    """Start every client at the gateway's position, and ignore its cursor."""

    def start(self: Gateway, _cursor: str | None) -> tuple[int, None]:
        return self.position, None

    Gateway.find_start = start  # type: ignore[assignment,method-assign]


def _without_hole_check() -> None:
    """Deliver every heard event, even if others before it are missing."""

    def hear(self: Sequence[Any], offset: int, message: Any) -> bool:
        if self.position is None:
            self._held[offset] = message
            return False
        if offset > self.position:
            self.position = offset
            self._deliver(offset, message)
        return True

    Sequence.hear = hear  # type: ignore[method-assign]
    Sequence.hole = property(lambda _self: None)  # type: ignore[assignment]


def _without_silence_probe() -> None:
    """Never ask whether the stream goes on behind the last event heard."""

    async def wait(self: Intake) -> Event:
        await asyncio.Event().wait()
        return Event.PROBE_DUE

    Intake._wait = wait  # type: ignore[method-assign]


def _without_revisions() -> None:
    """Judge every event by the newest revision of the catalogue, also one that was published before it."""

    def at(self: Timeline, _offset: int) -> Catalogue:
        return self.current

    Timeline.at = at  # type: ignore[assignment,method-assign]


def _without_records() -> None:
    """Keep the record of a Socket.IO session as it was when the session began, without its rooms."""

    async def keep(self: Recovery, kept: Kept) -> None:
        if kept.at == 0:
            await whole(self, kept)

    whole = Recovery.keep
    Recovery.keep = keep  # type: ignore[method-assign]


def _without_silence_of_gateways() -> None:
    """Never take a gateway for gone, however long it is silent."""

    def turn(self: Peers, now: float) -> Iterator[Question]:
        for peer in self._peers.values():
            peer.heard_at = now
        return whole(self, now)

    whole = Peers.turn
    Peers.turn = turn  # type: ignore[method-assign]


def _without_grace() -> None:
    """Take a user for gone as soon as the connection is lost."""

    def lose(self: OwnSessions, session: Hashable, user: str, rooms: Iterable[str], _now: float) -> None:
        for room in rooms:
            self.leave(session, user, room)

    OwnSessions.lose = lose  # type: ignore[assignment,method-assign]


def _without_answers() -> None:
    """Never take what another gateway answers that is asked for all of its users."""

    def hear(_self: Peers, _part: Part, _now: float) -> None:
        return

    Peers.hear_part = hear  # type: ignore[assignment,method-assign]


SABOTAGES = {
    "silent gateways": _without_silence_of_gateways,
    "grace": _without_grace,
    "answers": _without_answers,
    "records": _without_records,
    "revisions": _without_revisions,
    "resume": _without_resume,
    "holes": _without_hole_check,
    "silence": _without_silence_probe,
}

if __name__ == "__main__":
    SABOTAGES[os.environ["SABOTAGE"]]()
    gateway.main()

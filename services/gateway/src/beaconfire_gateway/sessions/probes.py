"""Find dead connections when a limit leaves no room for a new one: ping them, and wait for their answers.

A connection whose network failed silently stays until its heartbeat finds out, which takes half a minute. Its client is
back long before, and must not be refused because of the connection it lost. No I/O.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from beaconfire_gateway.sessions.timers import Call, Timers

PATIENCE_S = 3
"""How long a connection has to answer, or up to a second less: a client on a slow network may need most of it."""
KNOWN_S = 10
"""How long the outcome counts: as long as an address or a user is full, it is asked about this often."""


class Probed(Protocol):
    """A session that may be dead."""

    @property
    def is_silent(self) -> bool: ...
    def probe(self) -> None: ...
    def drop(self) -> None: ...


class Waiting(Protocol):
    """A session that is about to connect."""

    async def woken(self) -> None: ...
    def wake(self) -> None: ...


@dataclass(slots=True)
class _Probe:
    sessions: list[Probed]
    waiting: list[Waiting] = field(default_factory=list)
    is_over: bool = False


class Probes:
    """One for each gateway. A crowd (the sessions of a user, or of an address) is known by a name."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._probes: dict[str, _Probe] = {}

    def __len__(self) -> int:
        return len(self._probes)

    async def probe(self, session: Waiting, crowd: str, find: Callable[[], Iterable[Probed]]) -> bool:
        """Wait until it is known which of the sessions that `find` returns are silent, or until `session` ends.

        Returns whether it had to wait. It does not have to if that is known already.
        """
        probe = self._probes.get(crowd)
        if probe is None:
            probe = self._probes[crowd] = _Probe(list(find()))
            for one in probe.sessions:
                one.probe()
            self._timers.within(PATIENCE_S, Call(lambda: self._end(crowd)))
        if probe.is_over:
            return False
        probe.waiting.append(session)
        await session.woken()
        return True

    def drop_one(self, crowd: str) -> bool:
        """Drop the oldest session that was probed and has been silent since. Returns whether there was one."""
        probe = self._probes.get(crowd)
        while probe is not None and probe.is_over and probe.sessions:
            session = probe.sessions.pop(0)
            if session.is_silent:
                session.drop()
                return True
        return False

    def _end(self, crowd: str) -> None:
        probe = self._probes[crowd]
        probe.is_over = True
        waiting, probe.waiting = probe.waiting, []
        for session in waiting:
            session.wake()
        self._timers.within(KNOWN_S, Call(lambda: self._forget(crowd)))

    def _forget(self, crowd: str) -> None:
        del self._probes[crowd]

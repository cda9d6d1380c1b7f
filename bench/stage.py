"""Start the processes of the scenarios when they are first needed: the load client, our servers and the peers."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from beaconfire_gateway.process.settings import Settings
from bench.figures import OURS
from bench.load import SOURCE, Load, compile_c
from bench.peers import Peers
from bench.system import NATIVE, System

USERS = 20_000
REMEMBERED_S: int = Settings.model_fields["ring_age_s"].default
"""The age of the events that a gateway reads into its memory when it starts."""


@dataclass
class Stage:
    """The folder of the scenarios, and how long they measure."""

    folder: Path
    seconds: float
    changes: int
    peers: Peers
    _systems: dict[bool, System] = field(default_factory=dict)
    _last_used: float | None = None

    @cached_property
    def load(self) -> Path:
        """Return the load client, compiled at the first use. Raises LoadFailed."""
        return compile_c(SOURCE, self.folder / "load")

    def system(self, *, in_memory: bool) -> System:
        """Return the system without a gateway, with its stream in memory or on disk."""
        system = self._systems.get(in_memory)
        if system is None:
            folder = self.folder / ("memory" if in_memory else "durable")
            system = self._systems[in_memory] = System(folder, users=USERS, in_memory=in_memory)
            try:
                system.start()
            except BaseException:
                system.stop()
                del self._systems[in_memory]
                raise
        return system

    @contextmanager
    def gateway(
        self, environment: Mapping[str, str] | None = None, *, in_memory: bool = True, core: int | None = 0
    ) -> Iterator[System]:
        """Run a new gateway with its system."""
        system = self.system(in_memory=in_memory)
        try:
            system.start_gateway(environment, core=core)
            yield system
        finally:
            system.stop_gateway()
            self._last_used = time.monotonic()

    def wait_until_forgotten(self) -> None:
        """Wait until a new gateway would no longer read any published event into its memory."""
        if self._last_used is not None:
            time.sleep(max(0.0, self._last_used + REMEMBERED_S - time.monotonic()))

    @contextmanager
    def connected(
        self,
        subject: str,
        clients: int,
        rooms: int = 1,
        joins: int = 1,
        *,
        is_narrow: bool = False,
        unheard: int = 0,
        way: str = NATIVE,
    ) -> Iterator[Load]:
        """Connect clients to our gateway or to a peer, and let them join their rooms."""
        options = ["--unheard", str(unheard)]
        load_of = partial(Load, self.load, clients=clients, rooms=rooms, joins=joins, options=options)
        if subject != OURS:
            with self.peers.start(subject) as target, load_of(target) as load:
                load.connect(clients)
                yield load
            return
        with self.gateway() as system:
            # A few users with several connections each: auth is asked once per user, which takes most of the time.
            target = replace(system.target(is_narrow=is_narrow or rooms > 1, way=way), tokens=system.other_tokens)
            with load_of(target) as load:
                load.connect(clients)
                with system.auth_frozen():
                    yield load

    def stop(self) -> None:
        """End everything."""
        self.peers.stop()
        for system in self._systems.values():
            system.stop()

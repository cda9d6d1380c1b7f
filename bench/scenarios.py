"""The scenarios: each a function that measures for some seconds and returns samples."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import over_http
from bench.figures import FLOOR, OURS, PEERS, SOCKETIO, UWS, Row, Sample
from bench.load import Load, LoadFailed
from bench.peers import Peers
from bench.system import System

USERS = 20_000
WARM_S = 1.0
LOAD_LIMIT = 0.93
"""Share of its core above which the load client may be the limit itself."""


@dataclass
class Bench:
    """What scenarios need: a folder, the load client, how long, and servers, started when they are first wanted."""

    folder: Path
    load: Path
    seconds: float
    changes: int
    peers: Peers
    systems: dict[str, System] = field(default_factory=dict)

    def system(self, *, in_memory: bool) -> System:
        """The system with a memory-stored stream or a durable one, with a gateway just started."""
        name = "memory" if in_memory else "durable"
        system = self.systems.get(name)
        if system is None:
            system = System(self.folder / name, users=USERS, in_memory=in_memory)
            self.systems[name] = system
            system.start()
        system.start_gateway()
        return system

    @contextmanager
    def connected(self, subject: str, clients: int, rooms: int = 1, joins: int = 1, *words: str) -> Iterator[Load]:
        """Clients of our gateway or of a peer, connected and in their rooms. `words` are options of the load client."""
        load_of = partial(Load, self.load, clients=clients, rooms=rooms, joins=joins, options=words)
        if subject != OURS:
            with self.peers.start(subject) as target, load_of(target) as load:
                load.connect(clients)
                yield load
            return
        system = self.system(in_memory=True)
        try:
            with load_of(system.target(rooms=rooms)) as load:
                load.connect(clients, at_once=32)
                with system.auth_frozen():
                    yield load
        finally:
            system.stop_gateway()

    def stop(self) -> None:
        """End everything."""
        self.peers.stop()
        for system in self.systems.values():
            system.stop()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name for `--only`, the rows it fills, how, and the peers of which the same is measured."""

    name: str
    rows: Sequence[Row]
    measure: Callable[[Bench, str], list[Sample]]
    peers: Sequence[str] = ()


def fan_out(row: str, clients: int, rooms: int = 1, joins: int = 1) -> Callable[[Bench, str], list[Sample]]:
    """The most deliveries a second at a mean latency of 80 ms."""

    def measure(bench: Bench, subject: str) -> list[Sample]:
        with bench.connected(subject, clients, rooms, joins) as load:
            figures = load.ask(f"window 80 {WARM_S} {bench.seconds}")
        return [_rate(row, subject, figures)]

    return measure


def latency(bench: Bench, subject: str) -> list[Sample]:
    """1,000 clients in one room, 20,000 deliveries a second, whatever the server does."""
    with bench.connected(subject, 1_000) as load:
        figures = load.ask(f"rate 20000 {WARM_S} {bench.seconds}")
    cpu, at = _cpu(figures), figures["latency_ms"]
    return [
        Sample("cpu_20k", cpu, subject, cpu=cpu),
        Sample("p50_20k", at["p50"], subject),
        Sample("p99_20k", at["p99"], subject),
    ]


def idle(bench: Bench, _subject: str) -> list[Sample]:
    """Memory and garbage collection with 10,000 sessions that hear nothing."""
    clients = 10_000
    system = bench.system(in_memory=True)
    before = system.memory_kib()
    with Load(bench.load, system.target(), clients=clients) as load:
        load.connect(clients, at_once=32)
        load.ask("idle 3")
        grown = system.memory_kib() - before
        pauses = system.gc_pauses_ms()
    time.sleep(2)
    left = system.memory_kib() - before
    return [
        Sample("memory", grown / clients),
        Sample("memory_after", left / 1024),
        Sample("gc", pauses["thawed"]),
        Sample("gc_as_it_is", pauses["as_it_is"]),
        Sample("gc_frozen", pauses["frozen"]),
    ]


def over_http_(bench: Bench, _subject: str) -> list[Sample]:
    """From the HTTP request of a change to another person's socket, one change at a time."""
    columns = over_http.run(bench.folder / f"http-{time.monotonic_ns()}", bench.changes)
    samples = []
    for name, row in (("request to socket", "http"), ("removal to room.left", "removal")):
        cuts = statistics.quantiles(columns[name], n=100)
        samples += [Sample(f"{row}_p50", cuts[49]), Sample(f"{row}_p99", cuts[98])]
    return samples


def _rate(row: str, subject: str, figures: dict[str, Any]) -> Sample:
    if figures["missing"] > 0 or figures["disconnected"]:
        raise LoadFailed(f"{figures['missing']} deliveries missing, {figures['disconnected']} clients disconnected")
    limited = "the load client" if figures["load_cpu"] > LOAD_LIMIT else ""
    return Sample(row, figures["deliveries_per_second"], subject, cpu=_cpu(figures), limited=limited)


def _cpu(figures: dict[str, Any]) -> float:
    """CPU seconds of the server a million deliveries."""
    return float(1e6 * figures["cpu_s"]["gateway"] / max(1, figures["deliveries"]))


_PER_S = "deliveries/s"

SCENARIOS = (
    Scenario(
        "fan1k",
        [Row("fan1k", "1,000 clients in one room", _PER_S, times={UWS: 1, SOCKETIO: 30})],
        fan_out("fan1k", 1_000),
        PEERS,
    ),
    Scenario(
        "rooms",
        [Row("rooms", "100 rooms of 10 clients", _PER_S, times={UWS: 0.5, SOCKETIO: 6})],
        fan_out("rooms", 1_000, rooms=100),
        PEERS,
    ),
    Scenario(
        "five",
        [Row("five", "1,000 clients, each in 5 of 100 rooms", _PER_S, times={UWS: 0.8})],
        fan_out("five", 1_000, rooms=100, joins=5),
        (UWS, SOCKETIO),
    ),
    Scenario(
        "fan10k",
        [Row("fan10k", "10,000 clients in one room", _PER_S, times={UWS: 0.95, SOCKETIO: 2.5})],
        fan_out("fan10k", 10_000),
        PEERS,
    ),
    Scenario(
        "latency",
        [
            Row("cpu_20k", "CPU at 20,000 deliveries/s, one room", "s per M", times={FLOOR: 1.5}, of_cpu=True),
            Row("p50_20k", "latency at that rate, p50", "ms"),
            Row("p99_20k", "latency at that rate, p99", "ms"),
        ],
        latency,
        PEERS,
    ),
    Scenario(
        "idle",
        [
            Row("memory", "memory of an idle session of 10,000", "KiB", most=4),
            Row("memory_after", "memory still held once they left", "MiB"),
            Row("gc", "full garbage collection at 10,000 sessions", "ms", most=60),
            Row("gc_as_it_is", "… as the gateway leaves it", "ms"),
            Row("gc_frozen", "… with what is there frozen", "ms", most=1),
        ],
        idle,
    ),
    Scenario(
        "http",
        [
            Row("http_p50", "HTTP request to another's socket, p50", "ms"),
            Row("http_p99", "HTTP request to another's socket, p99", "ms"),
            Row("removal_p50", "member removed to room.left, p50", "ms"),
            Row("removal_p99", "member removed to room.left, p99", "ms"),
        ],
        over_http_,
    ),
)

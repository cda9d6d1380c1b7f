"""The scenarios: each a function that measures for some seconds and returns samples."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import over_http
from bench.figures import FLOOR, SOCKETIO, UWS, Row, Sample
from bench.load import Load
from bench.system import System

USERS = 20_000
WARM_S = 1.0
LOAD_LIMIT = 0.93
"""Share of its core above which the load client may be the limit itself."""


@dataclass
class Bench:
    """What scenarios need: a folder, the load client, how long, and the system, started when first wanted."""

    folder: Path
    load: Path
    seconds: float
    changes: int
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

    def stop(self) -> None:
        """End every system."""
        for system in self.systems.values():
            system.stop()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name for `--only`, the rows it fills, and how."""

    name: str
    rows: Sequence[Row]
    measure: Callable[[Bench], list[Sample]]


def fan_out(row: str, clients: int, rooms: int = 1, joins: int = 1) -> Callable[[Bench], list[Sample]]:
    """The most deliveries a second at a mean latency of 80 ms."""

    def measure(bench: Bench) -> list[Sample]:
        system = bench.system(in_memory=True)
        with Load(bench.load, system.target(rooms=rooms), clients=clients, rooms=rooms, joins=joins) as load:
            load.connect(clients)
            with system.auth_frozen():
                figures = load.ask(f"window 80 {WARM_S} {bench.seconds}")
        return [_rate(row, figures)]

    return measure


def latency(bench: Bench) -> list[Sample]:
    """1,000 clients in one room, 20,000 deliveries a second, whatever the gateway does."""
    system = bench.system(in_memory=True)
    with Load(bench.load, system.target(), clients=1_000) as load:
        load.connect(1_000)
        with system.auth_frozen():
            figures = load.ask(f"rate 20000 {WARM_S} {bench.seconds}")
    cpu = _cpu(figures)
    at = figures["latency_ms"]
    return [
        Sample("cpu_20k", cpu, cpu=cpu),
        Sample("p50_20k", at["p50"]),
        Sample("p99_20k", at["p99"]),
    ]


def idle(bench: Bench) -> list[Sample]:
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


def over_http_(bench: Bench) -> list[Sample]:
    """From the HTTP request of a change to another person's socket, one change at a time."""
    columns = over_http.run(bench.folder / f"http-{time.monotonic_ns()}", bench.changes)
    samples = []
    for name, row in (("request to socket", "http"), ("removal to room.left", "removal")):
        cuts = statistics.quantiles(columns[name], n=100)
        samples += [Sample(f"{row}_p50", cuts[49]), Sample(f"{row}_p99", cuts[98])]
    return samples


def _rate(row: str, figures: dict[str, object]) -> Sample:
    rate, load = float(str(figures["deliveries_per_second"])), float(str(figures["load_cpu"]))
    return Sample(row, rate, cpu=_cpu(figures), limited="the load client" if load > LOAD_LIMIT else "")


def _cpu(figures: dict[str, object]) -> float:
    """CPU seconds of the gateway a million deliveries."""
    cpu = figures["cpu_s"]
    assert isinstance(cpu, dict)
    return float(1e6 * cpu["gateway"] / max(1.0, float(str(figures["deliveries"]))))


_PER_S = "deliveries/s"

SCENARIOS = (
    Scenario(
        "fan1k",
        [Row("fan1k", "1,000 clients in one room", _PER_S, times={UWS: 1, SOCKETIO: 30})],
        fan_out("fan1k", 1_000),
    ),
    Scenario(
        "rooms",
        [Row("rooms", "100 rooms of 10 clients", _PER_S, times={UWS: 0.5, SOCKETIO: 6})],
        fan_out("rooms", 1_000, rooms=100),
    ),
    Scenario(
        "five",
        [Row("five", "1,000 clients, each in 5 of 100 rooms", _PER_S, times={UWS: 0.8})],
        fan_out("five", 1_000, rooms=100, joins=5),
    ),
    Scenario(
        "fan10k",
        [Row("fan10k", "10,000 clients in one room", _PER_S, times={UWS: 0.95, SOCKETIO: 2.5})],
        fan_out("fan10k", 10_000),
    ),
    Scenario(
        "latency",
        [
            Row("cpu_20k", "CPU at 20,000 deliveries/s, one room", "s per M", times={FLOOR: 1.5}, of_cpu=True),
            Row("p50_20k", "latency at that rate, p50", "ms"),
            Row("p99_20k", "latency at that rate, p99", "ms"),
        ],
        latency,
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

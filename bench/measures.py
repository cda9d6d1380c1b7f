"""How each scenario is measured: functions that measure for some seconds and return samples."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from beaconfire_gateway.fanout.checking import Checker, Stored
from beaconfire_gateway.process.gc_tuning import PATIENCE_S, STEP
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.timeline import Timeline
from bench import over_http
from bench.backlog import drained_per_s, syncs_each
from bench.cores import on_core
from bench.figures import OURS, Sample
from bench.joining import Joining
from bench.load import EVENT, ROUNDS, Load, LoadFailed
from bench.look_up import look_up_us
from bench.presence import joins_of
from bench.stage import Stage
from bench.syncs import floor_ms
from bench.system import BROKER, CAMPAIGN, NATIVE, OTHER_TOKENS, POLL, SERVER, cpu_s, rss_anon_kib
from bench.watching import Watching

WARM_S = 1.0
BUSY = 0.93
"""The share of the load's core above which the load client or the broker may be the limit."""
ONE_PROCESS = 18_000  # possible with 20,000 open files per process, a common limit
WORKERS = 5
HEARTBEAT_S = 25
JUST_NOT_FROZEN = STEP - 1
MISSED = 100
STORM = 500
WATCHED = 5_000
TOLD = 10
"""Messages to clients for each join, at most, however many users are in the room."""
JOINS = 200
"""In rooms without events, a second, and as many leaves."""

Measure = Callable[[Stage, str], list[Sample]]


def fan_out(row: str, clients: int, rooms: int = 1, joins: int = 1, way: str = NATIVE) -> Measure:
    """Measure the highest rate of deliveries at a mean latency of 80 ms."""

    def measure(stage: Stage, subject: str) -> list[Sample]:
        with stage.connected(subject, clients, rooms, joins, way=way) as load:
            figures = load.ask(f"window 80 {WARM_S} {stage.seconds}")
        _check(figures)
        cpu = 1e6 * figures["cpu_s"][SERVER] / figures["deliveries"]
        return [
            Sample(
                row,
                figures["deliveries_per_second"],
                subject,
                cpu=cpu,
                limited=_limited(figures),
                others=figures["other_cpu"],
            )
        ]

    return measure


def at_rate(row: str, deliveries_per_s: int, clients: int, rooms: int = 1) -> Measure:
    """Measure CPU time and latency at a fixed rate of deliveries."""

    def measure(stage: Stage, subject: str) -> list[Sample]:
        with stage.connected(subject, clients, rooms) as load:
            figures = load.ask(f"rate {deliveries_per_s} {WARM_S} {stage.seconds}")
        _check(figures)
        cpu, at, others = (
            1e6 * figures["cpu_s"][SERVER] / figures["deliveries"],
            figures["latency_ms"],
            figures["other_cpu"],
        )
        return [
            Sample(row, cpu, subject, cpu=cpu, others=others),
            Sample(f"{row}_p50", at["p50"], subject, others=others),
            Sample(f"{row}_p99", at["p99"], subject, others=others),
        ]

    return measure


def joins(stage: Stage, _subject: str) -> list[Sample]:
    """10,000 clients in one room, 100,000 deliveries a second, and 200 joins a second in other rooms; and without."""
    limits = {
        "BEACONFIRE_MESSAGES_PER_MINUTE": "100000",
        "BEACONFIRE_MESSAGES_PER_MINUTE_PER_USER": "100000",
        "BEACONFIRE_ROOMS_PER_MINUTE": "100000",
        "BEACONFIRE_ROOMS_PER_MINUTE_PER_USER": "100000",
    }
    samples = []
    with stage.gateway(limits) as system:
        target = replace(system.target(), tokens=system.other_tokens)
        with Load(stage.load, target, clients=10_000) as load:
            load.connect(10_000)
            for row, per_second in (("joins_none", 0), ("joins", JOINS)):
                with Joining(target.port, system.few_tokens, per_second=per_second):
                    figures = load.ask(f"rate 100000 {WARM_S} {stage.seconds}")
                _check(figures)
                cpu, others = 1e6 * figures["cpu_s"][SERVER] / figures["deliveries"], figures["other_cpu"]
                samples += [
                    Sample(row, cpu, cpu=cpu, others=others),
                    Sample(f"{row}_p99", figures["latency_ms"]["p99"], others=others),
                ]
    return samples


def presence(stage: Stage, _subject: str) -> list[Sample]:
    """1,000 clients in one room at 20,000 deliveries a second, and 5,000 idle ones.

    First nobody asks who is here, and then a client does. It connects first, so all others are counted.
    """
    samples = []
    for row, is_wanted in (("off", False), ("on", True)):
        with stage.gateway() as system:
            target = replace(system.target(), tokens=system.other_tokens)
            with (
                Watching(target.port, system.few_tokens, is_wanted=is_wanted),
                Load(stage.load, target, clients=1_000) as load,
            ):
                load.connect(1_000)
                figures = load.ask(f"rate 20000 {WARM_S} {stage.seconds}")
        _check(figures)
        cpu, others = 1e6 * figures["cpu_s"][SERVER] / figures["deliveries"], figures["other_cpu"]
        stage.wait_until_forgotten()
        with stage.gateway() as system, Watching(system.target().port, system.few_tokens, is_wanted=is_wanted):
            before = system.memory_kib()
            with Load(stage.load, system.target(), clients=WATCHED) as load:
                load.connect(WATCHED, at_once=32)
                load.ask("idle 3")
                grown = system.memory_kib() - before
        samples += [
            Sample(f"presence_cpu_{row}", cpu, cpu=cpu, others=others),
            Sample(f"presence_p99_{row}", figures["latency_ms"]["p99"], others=others),
            Sample(f"presence_memory_{row}", grown / WATCHED),
        ]
    return samples


def presence_joins(stage: Stage, _subject: str) -> list[Sample]:
    """1,000 and 2,000 users join one room on two gateways, and all of them are told who is there; and not."""
    samples = []
    for count in (1_000, 2_000):
        for row, is_told in (("off", False), ("on", True)):
            found = joins_of(stage.folder, count, presence=is_told)
            samples.append(Sample(f"presence_join_{row}_{count}", found.cpu_ms))
            if is_told:
                samples.append(Sample(f"presence_told_{count}", found.told_per_join))
    return samples


def intake_unheard(stage: Stage, _subject: str) -> list[Sample]:
    """Measure how many events the gateway takes in. One in 501 is for the only client, which shows the progress."""
    with stage.connected(OURS, 1, is_narrow=True, unheard=500) as load:
        return _intake("intake", stage, load)


def intake_heard(stage: Stage, _subject: str) -> list[Sample]:
    """Measure how many events the gateway takes in if each is for one client of a thousand."""
    with stage.connected(OURS, 1_000, rooms=1_000) as load:
        return _intake("intake_heard", stage, load)


def _intake(row: str, stage: Stage, load: Load) -> list[Sample]:
    figures = load.ask(f"window 80 {WARM_S} {stage.seconds}")
    _check(figures)
    rate, seconds = figures["events_per_second"], figures["seconds"]
    cpu_s = figures["cpu_s"][SERVER] / (rate * seconds)
    limited, others = _limited(figures), figures["other_cpu"]
    return [
        Sample(row, 1 / cpu_s, cpu=1e6 * cpu_s, others=others),
        Sample(f"{row}_rate", rate, limited=limited, others=others),
    ]


def durable(stage: Stage, _subject: str) -> list[Sample]:
    """Measure the rate of the durable stream, and the time from publishing to a socket through it."""
    system = stage.system(in_memory=False)
    with Load(stage.load, system.store(), clients=1) as load:
        first = load.ask("publish 500 1024")
        figures = load.ask(f"publish {max(500, int(first['per_second'] * stage.seconds))} 1024")
    if figures["not_stored"]:
        raise LoadFailed(f"{figures['not_stored']} events were not stored")
    stored = Sample("stored", figures["per_second"], cpu=1e6 * figures["cpu_s"][BROKER] / figures["stored"])
    one_by_one = drained_per_s(system.nats, stage.folder, int(300 * stage.seconds), in_batches=False)
    in_batches = drained_per_s(system.nats, stage.folder, int(3_000 * stage.seconds), in_batches=True)
    syncs = [
        Sample(row, each * 1_000)
        for row, together in (("syncs_singly", False), ("syncs", True))
        if (each := syncs_each(system.nats, stage.folder, in_batches=together)) is not None
    ]
    with (
        stage.gateway(in_memory=False) as system,
        Load(stage.load, system.target(), clients=1, options=["--acks"]) as load,
    ):
        load.connect(1)
        figures = load.ask(f"rate 100 {WARM_S} {stage.seconds}")
    _check(figures)
    at = figures["latency_ms"]
    others = figures["other_cpu"]
    return [
        stored,
        Sample("backlog_singly", one_by_one),
        Sample("backlog", in_batches),
        Sample("backlog_ratio", in_batches / one_by_one),
        *syncs,
        Sample("to_socket_p50", at["p50"], others=others),
        Sample("to_socket_p99", at["p99"], others=others),
    ]


def validation(_stage: Stage, _subject: str) -> list[Sample]:
    """Measure what validating and encoding an event costs, and the validation alone, in this process."""
    subject = f"campaign.{CAMPAIGN}.settlement.s0"
    body = EVENT.replace("{n}", "1").replace("{r}", "0").replace("{t}", "123456789012345").encode()
    catalogue, timeline = Catalogue.of(1, builtin.fragments()), Timeline()
    timeline.begin([(0, catalogue)])
    checker, stored = Checker(timeline), Stored.of(subject.encode(), body, None)
    wire = Wire(Native(), TextFrames())
    return [
        Sample("encode", _microseconds(lambda: checker.check("e", 1, stored).frame(wire))),
        Sample("validate", _microseconds(lambda: catalogue.check(subject, body))),
    ]


def look_up(_stage: Stage, _subject: str) -> list[Sample]:
    """Measure how long it takes to find the sessions in a room among 10,000, in this process."""
    return [
        Sample("look_up", look_up_us(1_000, joins=False)),
        Sample("look_up_joined", look_up_us(1_000, joins=True)),
        Sample("look_up_crowd", look_up_us(1, joins=True)),
    ]


def _microseconds(work: Callable[[], object], times: int = 5_000) -> float:
    """Return the best of five times, because other programs can only make it slower."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, (time.perf_counter() - began) / times)
    return 1e6 * best


def connecting(stage: Stage, _subject: str) -> list[Sample]:
    """Connect 2,000 users for the first time, then with other tokens of the same age, then with those tokens again."""
    count = OTHER_TOKENS
    samples = []
    with stage.gateway() as system:
        target = system.target()
        for row, tokens in (
            ("connect_first", system.tokens),
            ("connect_fresh", system.other_tokens),
            ("connect_cached", system.other_tokens),
        ):
            with Load(stage.load, target, clients=count, options=["--tokens", str(tokens)]) as load:
                figures = load.connect(count)
                cpu = 1e6 * figures["cpu_s"][SERVER] / count
                samples.append(Sample(row, figures["per_second"], cpu=cpu, limited=_again(figures)))
    return samples


def resume(stage: Stage, _subject: str) -> list[Sample]:
    """Let 10,000 clients lose their connections, miss 100 events and return with their cursor, 500 at a time."""
    clients = 10_000
    with stage.gateway() as system:
        with Load(stage.load, system.target(), clients=clients) as load:
            load.connect(clients, at_once=32)
            cursor = system.cursor
        with Load(stage.load, system.store(), clients=1) as load:
            load.ask(f"publish {MISSED} 100")
        with Load(stage.load, system.target(cursor=cursor), clients=clients) as load:
            began = time.monotonic()
            joined = load.connect(clients, at_once=STORM)
            figures = load.ask(f"expect {clients * MISSED} 60")
            took_s = time.monotonic() - began
        if figures["missing"]:
            raise LoadFailed(f"{figures['missing']} missed events did not come")
    return [
        Sample("resume", took_s, cpu=joined["cpu_s"][SERVER] * 1e6 / clients, limited=_again(joined)),
        Sample("resume_p99", joined["latency_ms"]["p99"]),
    ]


def idle(stage: Stage, _subject: str) -> list[Sample]:
    """Measure memory and garbage collection with 10,000 idle sessions, and the memory left after they have gone."""
    clients = 10_000
    stage.wait_until_forgotten()
    with stage.gateway() as system:
        before = system.memory_kib()
        system.hold_collector()
        with Load(stage.load, system.target(), clients=clients + JUST_NOT_FROZEN) as load:
            load.connect(clients, at_once=32)
            load.ask("idle 3")
            grown = system.memory_kib() - before
            pauses = system.gc_pauses_ms()
            load.ask("idle 2")  # the gateway freezes them, as always
            load.connect(JUST_NOT_FROZEN, at_once=32)
            as_it_is = system.gc_pauses_ms()["as_it_is"]
        time.sleep(PATIENCE_S + 5)
        left = system.memory_kib() - before
    return [
        Sample("memory", grown / clients),
        Sample("memory_after", left / 1024),
        Sample("gc", pauses["as_it_is"]),
        Sample("gc_thawed", pauses["thawed"]),
        Sample("gc_as_it_is", as_it_is),
        Sample("gc_frozen", pauses["frozen"]),
    ]


def poll_latency(stage: Stage, _subject: str) -> list[Sample]:
    """Measure 1,000 clients that poll for one room, at a fixed rate of 20,000 deliveries a second."""
    with stage.connected(OURS, 1_000, way=POLL) as load:
        figures = load.ask(f"rate 20000 {WARM_S} {stage.seconds}")
    _check(figures)
    cpu, others = 1e6 * figures["cpu_s"][SERVER] / figures["deliveries"], figures["other_cpu"]
    return [
        Sample("poll_20k", cpu, cpu=cpu, others=others),
        Sample("poll_p50", figures["latency_ms"]["p50"], others=others),
    ]


def waiting(row: str, way: str) -> Measure:
    """Measure the memory of 5,000 idle clients that came this way."""
    clients = 5_000

    def measure(stage: Stage, subject: str) -> list[Sample]:
        if subject != OURS:
            with stage.peers.start(subject) as target:
                before = rss_anon_kib(target.watch[SERVER])
                with Load(stage.load, target, clients=clients) as load:
                    load.connect(clients, at_once=32)
                    load.ask("idle 3")
                    grown = rss_anon_kib(target.watch[SERVER]) - before
            return [Sample(row, grown / clients, subject)]
        stage.wait_until_forgotten()
        with stage.gateway() as system:
            before = system.memory_kib()
            with Load(stage.load, system.target(way=way), clients=clients) as load:
                load.connect(clients, at_once=32)
                load.ask("idle 3")
                grown = system.memory_kib() - before
        return [Sample(row, grown / clients)]

    return measure


def waiting_polls(stage: Stage, _subject: str) -> list[Sample]:
    """Measure the CPU time of 5,000 polls without an event. Each is answered and sent again every 25 s."""
    clients, seconds = 5_000, 2 * HEARTBEAT_S
    with stage.gateway() as system, Load(stage.load, system.target(way=POLL), clients=clients) as load:
        load.connect(clients, at_once=32)
        load.ask(f"idle {HEARTBEAT_S}")
        before = cpu_s(system.gateway_pid)
        load.ask(f"idle {seconds}")
        used = cpu_s(system.gateway_pid) - before
    return [Sample("poll_idle", 1e6 * used / clients / seconds)]


def several(*measures: Measure) -> Measure:
    """Measure one after the other."""
    return lambda stage, subject: [sample for measure in measures for sample in measure(stage, subject)]


def crowd(row: str, workers: int) -> Measure:
    """Measure the memory of as many idle clients as fit, for longer than a heartbeat, and whether all hear something.

    In one process, every client is another user. With several workers, a few users have many connections each, because
    every worker would ask auth about every user, and again after 30 s.
    """

    def measure(stage: Stage, _subject: str) -> list[Sample]:
        environment = {"BEACONFIRE_WORKERS": str(workers)} if workers > 1 else {}
        with ExitStack() as stack:
            core = 0 if workers == 1 else None
            system = stack.enter_context(stage.gateway(environment, core=core))
            before = system.memory_kib()
            target = system.target() if workers == 1 else replace(system.target(), tokens=system.few_tokens)
            loads = [
                stack.enter_context(
                    Load(stage.load, target, clients=ONE_PROCESS, options=["--source", str(2 * number + 1)])
                )
                for number in range(workers)
            ]
            _all(loads, f"connect {ONE_PROCESS} 32 {ROUNDS}")
            idle = _all(loads, f"idle {HEARTBEAT_S + 3}")
            grown = system.memory_kib() - before
            count = sum(one["clients"] for one in idle)
            quiet = sum(one["silent"] for one in idle)
            if count != workers * ONE_PROCESS or quiet:
                words = "; ".join(load.words() for load in loads)
                raise LoadFailed(
                    f"{count} of {workers * ONE_PROCESS} stayed, {quiet} received nothing in time. {words}"
                )
        return [Sample(row, count), Sample(f"{row}_memory", grown / count)]

    return measure


def _all(loads: Sequence[Load], command: str) -> list[dict[str, Any]]:
    """Give a command to several load clients at once, and return their figures."""
    for load in loads:
        load.say(command)
    return [load.hear(command) for load in loads]


def http(stage: Stage, _subject: str) -> list[Sample]:
    """Measure the time from a change over HTTP to a client's socket, and from a removal to the removed member.

    Beside it stands how long the two syncs take for which a change must wait.
    """
    commit_ms, store_ms = floor_ms(stage.system(in_memory=False).nats, stage.folder, stage.changes // 2)
    with on_core(None):  # nine processes, as a deployment has them: on one core they would wait for one another
        columns = over_http.run(stage.folder / f"http-{time.monotonic_ns()}", stage.changes)
    samples = []
    for name, row in (
        ("request to socket", "http"),
        ("one after the other", "http_busy"),
        ("removal to room.left", "removal"),
    ):
        cuts = statistics.quantiles(columns[name], n=100)
        samples += [Sample(f"{row}_p50", cuts[49]), Sample(f"{row}_p99", cuts[98])]
    mean = {name: statistics.fmean(column) for name, column in columns.items()}
    after = mean["request to socket"] - mean["request to event"] - mean["event to broker"]
    return [
        *samples,
        Sample("http_event", mean["request to event"]),
        Sample("http_stored", mean["event to broker"]),
        Sample("http_socket", after),
        Sample("http_commit", commit_ms),
        Sample("http_store", store_ms),
        Sample("http_times", samples[0].value / (commit_ms + store_ms)),
    ]


def _check(figures: dict[str, Any]) -> None:
    """Raise LoadFailed if an event was lost or came twice, because then the figure is worthless."""
    if figures["missing"] or figures["disconnected"] or not figures["deliveries"]:
        lost = f"{figures['missing']} deliveries missing, {figures['disconnected']} clients disconnected"
        raise LoadFailed(f"{lost}, of {figures['deliveries']:.0f}")


def _limited(figures: dict[str, Any]) -> str:
    """Return what else was at its limit."""
    broker = figures["cpu_s"].get(BROKER, 0) / figures["seconds"]
    return (
        "the core of the load client and the broker was busy, so the gateway may be faster"
        if figures["load_cpu"] + broker > BUSY
        else ""
    )


def _again(figures: dict[str, Any]) -> str:
    return f"{figures['again']} attempts to connect were refused and repeated" if figures["again"] else ""

"""The scenarios: the rows that each fills, what measures them, and the peers that are measured, too."""

from collections.abc import Sequence
from dataclasses import dataclass

from beaconfire_gateway.process.gc_tuning import PATIENCE_S
from bench import measures
from bench.figures import CENTRIFUGO, FLOOR, PEERS, SOCKETIO, UWS, Row
from bench.system import POLL, SSE
from bench.system import SOCKETIO as SOCKETIO_WAY


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name for `--only`, the rows that it fills, its function, and the peers that are measured, too.

    A long scenario is measured in the first run only (`once`).
    """

    name: str
    rows: Sequence[Row]
    measure: measures.Measure
    peers: Sequence[str] = ()
    once: bool = False


_PER_S = "deliveries/s"

SCENARIOS = (
    Scenario(
        "fan1k",
        [Row("fan1k", "1,000 clients in one room", _PER_S, least=100_000, times={UWS: 1, SOCKETIO: 30})],
        measures.fan_out("fan1k", 1_000),
        PEERS,
    ),
    Scenario(
        "rooms",
        [Row("rooms", "100 rooms of 10 clients", _PER_S, times={UWS: 0.5, CENTRIFUGO: 1.1, SOCKETIO: 6})],
        measures.fan_out("rooms", 1_000, rooms=100),
        PEERS,
    ),
    Scenario(
        "rooms_cpu",
        [
            Row(
                "rooms_200k",
                "CPU at 200,000 deliveries/s, 100 rooms of 10 clients",
                "s per M",
                times={CENTRIFUGO: 0.8, UWS: 1},
                of_cpu=True,
            ),
            Row("rooms_200k_p50", "… latency, p50", "ms"),
            Row("rooms_200k_p99", "… latency, p99", "ms"),
        ],
        measures.at_rate("rooms_200k", 200_000, 1_000, rooms=100),
        (UWS, CENTRIFUGO),
    ),
    Scenario(
        "five",
        [Row("five", "1,000 clients, each in 5 of 100 rooms", _PER_S, times={UWS: 0.8})],
        measures.fan_out("five", 1_000, rooms=100, joins=5),
        (UWS, SOCKETIO),
    ),
    Scenario(
        "fan10k",
        [Row("fan10k", "10,000 clients in one room", _PER_S, times={UWS: 0.95, SOCKETIO: 2.5})],
        measures.fan_out("fan10k", 10_000),
        (UWS, SOCKETIO),
    ),
    Scenario(
        "latency",
        [
            Row("room_20k", "CPU at 20,000 deliveries/s, one room", "s per M", times={FLOOR: 1.3}, of_cpu=True),
            Row("room_20k_p50", "… latency, p50", "ms"),
            Row("room_20k_p99", "… latency, p99", "ms"),
        ],
        measures.at_rate("room_20k", 20_000, 1_000),
        PEERS,
    ),
    Scenario(
        "socketio",
        [
            Row("socketio", "1,000 Socket.IO clients in one room", _PER_S, times={SOCKETIO: 10}),
            Row("socketio_memory", "… memory of each of 5,000", "KiB", times={SOCKETIO: 0.25}, is_cost=True),
        ],
        measures.several(
            measures.fan_out("socketio", 1_000, way=SOCKETIO_WAY),
            measures.waiting("socketio_memory", SOCKETIO_WAY),
        ),
        (SOCKETIO,),
    ),
    Scenario(
        "sse",
        [
            Row("sse", "1,000 event streams in one room", _PER_S),
            Row("sse_memory", "… memory of each of 5,000", "KiB"),
        ],
        measures.several(measures.fan_out("sse", 1_000, way=SSE), measures.waiting("sse_memory", SSE)),
    ),
    Scenario(
        "poll",
        [
            Row("poll_20k", "CPU of 1,000 long polls, 20,000 deliveries/s", "s per M"),
            Row("poll_p50", "… latency, p50", "ms"),
            Row("poll_memory", "… memory of each of 5,000", "KiB"),
            Row("poll_idle", "… CPU of each of 5,000, without events", "µs/s"),
        ],
        measures.several(measures.poll_latency, measures.waiting("poll_memory", POLL), measures.waiting_polls),
    ),
    Scenario(
        "joins",
        [
            Row("joins_none", "CPU at 100,000 deliveries/s, 10,000 in one room", "s per M"),
            Row("joins_none_p99", "… latency, p99", "ms"),
            Row("joins", f"… with {measures.JOINS} joins a second in other rooms", "s per M"),
            Row("joins_p99", "… latency, p99", "ms"),
        ],
        measures.joins,
    ),
    Scenario(
        "intake",
        [
            Row("intake", "events for rooms without clients, per CPU second", "events", least=100_000),
            Row("intake_rate", "… highest rate at a mean latency of 80 ms", "events/s"),
        ],
        measures.intake_unheard,
    ),
    Scenario(
        "heard",
        [
            Row("intake_heard", "events for one client each, per CPU second", "events", least=90_000),
            Row("intake_heard_rate", "… highest rate at a mean latency of 80 ms", "events/s"),
        ],
        measures.intake_heard,
    ),
    Scenario(
        "durable",
        [
            Row("stored", "events that the broker alone stores on disk", "events/s"),
            Row("backlog_singly", "backlog of an outbox, event by event", "events/s"),
            Row("backlog", "… in atomic batches", "events/s"),
            Row("backlog_ratio", "… in batches, divided by event by event", "x", least=5),
            Row("syncs_singly", "syncs of the broker's disk for 1,000 events, event by event", "syncs"),
            Row("syncs", "… in atomic batches", "syncs"),
            Row("to_socket_p50", "publishing to socket, stream on disk, 100 events/s, p50", "ms"),
            Row("to_socket_p99", "… p99", "ms"),
        ],
        measures.durable,
    ),
    Scenario(
        "validation",
        [
            Row("encode", "validating and encoding an event", "µs"),
            Row("validate", "… of that, the validation", "µs"),
        ],
        measures.validation,
    ),
    Scenario(
        "look_up",
        [
            Row("look_up", "finding a room's sessions, 10,000 in 1,000 rooms", "µs", most=1_000),
            Row("look_up_joined", "… after a session joined it", "µs", most=1_000),
            Row("look_up_crowd", "… all in one room, after a session joined it", "µs", most=1_000),
        ],
        measures.look_up,
    ),
    Scenario(
        "connect",
        [
            Row("connect_fresh", "connects with a new token of a known member", "connects/s", least=1_200),
            Row("connect_cached", "connects with a known token", "connects/s", least=1_800),
            Row("connect_first", "connects of unknown users, auth is asked", "connects/s"),
        ],
        measures.connecting,
    ),
    Scenario(
        "resume",
        [
            Row("resume", f"10,000 clients resume, {measures.MISSED} missed events each", "s"),
            Row("resume_p99", "… until the gateway acknowledges a connection, p99", "ms"),
        ],
        measures.resume,
        once=True,
    ),
    Scenario(
        "idle",
        [
            Row("memory", "memory of each of 10,000 idle sessions", "KiB", most=2),
            Row("memory_after", f"memory still held {PATIENCE_S + 5:.0f} s after they have left", "MiB"),
            Row("gc", "full garbage collection of 10,000 sessions", "ms", most=60),
            Row("gc_thawed", "… if nothing is frozen", "ms"),
            Row("gc_as_it_is", "… if 999 sessions are not frozen, the worst case", "ms"),
            Row("gc_frozen", "… if everything is frozen", "ms", most=1),
        ],
        measures.idle,
        once=True,
    ),
    Scenario(
        "18k",
        [
            Row("one", "idle sessions in one process", "sessions", least=measures.ONE_PROCESS),
            Row("one_memory", "… memory of each", "KiB", most=4.5),
        ],
        measures.crowd("one", 1),
        once=True,
    ),
    Scenario(
        "90k",
        [
            Row(
                "five_workers",
                "idle sessions in a gateway with five workers",
                "sessions",
                least=measures.WORKERS * measures.ONE_PROCESS,
            ),
            Row("five_workers_memory", "… memory of each", "KiB", most=4.5),
        ],
        measures.crowd("five_workers", measures.WORKERS),
        once=True,
    ),
    Scenario(
        "http",
        [
            Row("http_p50", "HTTP request to a client's socket, 20 changes/s, p50", "ms"),
            Row("http_p99", "… p99", "ms"),
            Row("http_event", "… mean, from the request to the event's creation", "ms"),
            Row("http_stored", "… mean, from the creation to the broker's acknowledgement", "ms"),
            Row("http_socket", "… mean, from the acknowledgement to the socket", "ms"),
            Row("http_commit", "a commit to SQLite alone, p50", "ms"),
            Row("http_store", "an event stored by the broker alone, p50", "ms"),
            Row("http_times", "HTTP request to socket, divided by the sum of both", "x", most=2),
            Row("http_busy_p50", "HTTP request to socket, each after the one before, p50", "ms"),
            Row("http_busy_p99", "… p99", "ms"),
            Row("removal_p50", "removal of a member to `room.left`, p50", "ms"),
            Row("removal_p99", "… p99", "ms"),
        ],
        measures.http,
        once=True,
    ),
    Scenario(
        "presence",
        [
            Row("presence_cpu_off", "CPU at 20,000 deliveries/s, if no client asks who is here", "s per M"),
            Row("presence_cpu_on", "… if a client is told who is here", "s per M"),
            Row("presence_p99_off", "… latency if no client asks, p99", "ms"),
            Row("presence_p99_on", "… latency if a client is told, p99", "ms"),
            Row("presence_memory_off", "memory of an idle session, if no client asks who is here", "KiB"),
            Row("presence_memory_on", "… of a user, if a client is told who is here", "KiB"),
        ],
        measures.presence,
    ),
    Scenario(
        "presence_joins",
        [
            Row("presence_join_off_1000", "CPU of a join, 1,000 users join a room, no client is told", "ms"),
            Row("presence_join_on_1000", "… all of them are told who is there", "ms"),
            Row("presence_join_off_2000", "CPU of a join, 2,000 users join a room, no client is told", "ms"),
            Row("presence_join_on_2000", "… all of them are told who is there", "ms"),
            Row("presence_told_1000", "messages to clients for each join of 1,000", "messages", most=measures.TOLD),
            Row("presence_told_2000", "… of 2,000", "messages", most=measures.TOLD),
        ],
        measures.presence_joins,
        once=True,
    ),
)

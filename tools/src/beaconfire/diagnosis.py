"""Judge what `beaconfire doctor` saw: can each promise of docs/topics/delivery.md be kept, and if not, what to change.

No I/O.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from beaconfire.outboxes import Seen as OutboxSeen
from beaconfire_kit.broker import (
    DEADLETTERS,
    DUPLICATE_WINDOW_S,
    LIVE_PREFIX,
    MAX_MESSAGE_BYTES,
    NS,
    STREAM,
    STREAM_SUBJECTS,
    epoch_of,
)
from beaconfire_kit.catalogue_store import KV_STREAM
from beaconfire_kit.gateway_buckets import BUCKETS
from beaconfire_kit.progress import STUCK_S
from beaconfire_kit.relay import STALE_S

Verdict = Literal["ok", "warning", "wrong", "unseen"]

MIN_VERSION = (2, 12, 7)
"""Older versions have known vulnerabilities that need no password (CVE-2026-27889, NATS advisory 2026-16)."""
NEEDED_VERSION = (2, 11, 0)
"""Older versions have no lifetime of single messages (`Nats-TTL`), which ticks need."""
MAX_PAYLOAD = 256 * 1024
SKEW_WARNING_S = 2.0
SKEW_WRONG_S = 30.0
"""How far the times in a token may be off."""
REACH_WARNING_S = 24 * 3600
LAG_WARNING = 1_000
OUTBOX_OF = "outbox of "
"""Begins the name of a fact about a service's outbox."""
RELAY_SILENT_S = 60.0
"""A relay with events to send renews its lease every second or two."""
DURABLES = ("auth-parents", "rules-engine", "scheduler")
"""The consumers of our own services."""
SETUP = "`beaconfire setup` as the broker user `setup`"
BROKER_CONFIG = (
    "write the broker's configuration again with `beaconfire broker config`, with the files of your catalogue and "
    "publishers, and reload the broker (docs/howto/deploy.md)"
)


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `found` is a sentence about the finding, `advice` about what to change."""

    part: str
    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    service: str = ""
    """Of a service: how it is called. `name` is its URL."""
    version: str = ""


@dataclass(frozen=True, slots=True)
class LoginProbe:
    """What a broker user may do, compared with what it should. `why` is the reason if that is not known."""

    user: str
    opened: tuple[str, ...] = ()
    """Actions that it may do, but must not."""
    shut: tuple[str, ...] = ()
    """Actions that it may not do, but must be able to do."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer of a service's `/readyz`."""

    url: str
    ready: bool
    said: str
    warnings: tuple[str, ...] = ()
    version: str = ""
    """Empty on public ports, which do not tell it."""
    service: str = ""
    """What it is called."""
    skew_s: float | None = None
    """How far its clock is ahead of this machine's, to about a second."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that the doctor found. None means that one could not be read: `unseen` has the reason by field name."""

    server: Mapping[str, Any]
    """The broker's INFO."""
    user: str
    development: bool
    now: datetime
    skew_s: float | None = None
    """How far the broker's clock is ahead of this machine's."""
    stream: Mapping[str, Any] | None = None
    """STREAM.INFO of the event stream, with the number of anchors. Empty if there is no such stream."""
    stores: str | None = ""
    """Why the stream stores no messages, or empty if it does. None if that was not tried."""
    deadletters: Mapping[str, Any] | None = None
    buckets: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """STREAM.INFO of the gateways' buckets, by name. Empty if there is no such bucket, None if it was not seen."""
    catalogue_bucket: Mapping[str, Any] | None = None
    """STREAM.INFO of the catalogue's bucket."""
    consumers: tuple[Mapping[str, Any], ...] | None = None
    account: Mapping[str, Any] | None = None
    varz: tuple[Mapping[str, Any], ...] = ()
    """The monitoring pages of the servers that answered."""
    open_to_all: bool = False
    """Whether the broker accepts clients without a user."""
    logins: tuple[LoginProbe, ...] = ()
    services: tuple[Readiness, ...] = ()
    outboxes: tuple[OutboxSeen, ...] = ()
    unseen: Mapping[str, str] = field(default_factory=dict)
    stuck_s: float = STUCK_S
    """A consumer is stuck if it acknowledged no message for this long while one was redelivered."""


def examine(facts: Facts) -> list[Check]:
    """Return all checks in the order in which they are shown."""
    checks = [*_broker(facts)]
    if facts.stream is None:
        checks.append(_unseen(facts, "stream", "stream", "stream", "wrong"))
    elif not facts.stream:
        checks.append(Check("stream", "stream", "wrong", f"there is no stream {STREAM}", f"run {SETUP}"))
    else:
        checks += [*_stream(facts, facts.stream), *_cluster(facts, facts.stream), *_consumers(facts, facts.stream)]
    return [*checks, *_deadletters(facts), *_buckets(facts), *_services(facts), *_outboxes(facts)]


def _broker(facts: Facts) -> Iterator[Check]:
    yield _version(str(facts.server.get("version", "0")))
    yield _payload(int(facts.server.get("max_payload", 0)))
    yield _clock(facts)
    yield from _syncs(facts)
    yield _passwords(facts)
    for login in facts.logins:
        yield _login(login)


def _version(version: str) -> Check:
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())
    advice = "run nats-server 2.12.7 or newer; the project is tested with 2.15"
    if numbers < NEEDED_VERSION:
        return Check("broker", "version", "wrong", f"{version} has no lifetime of single messages", advice)
    if numbers < MIN_VERSION:
        return Check("broker", "version", "warning", f"{version} has known vulnerabilities", advice)
    return Check("broker", "version", "ok", version)


def _payload(size: int) -> Check:
    if size < MAX_PAYLOAD:
        advice = f"set max_payload to 256KB: the broker refuses events larger than {in_bytes(size)} for good"
        return Check("broker", "max_payload", "warning", in_bytes(size), advice)
    return Check("broker", "max_payload", "ok", in_bytes(size))


def _clock(facts: Facts) -> Check:
    if facts.skew_s is None:
        return Check("broker", "clock", "unseen", "the broker did not send its time")
    return clock("broker", "clock", facts.skew_s, "retention, and the look-up of old events, depend on it")


def clock(part: str, name: str, skew_s: float, breaks: str) -> Check:
    """Judge how far a clock is off. `breaks` says what that breaks."""
    off = abs(skew_s)
    found = f"{off:.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    verdict: Verdict = "wrong" if off > SKEW_WRONG_S else "warning" if off > SKEW_WARNING_S else "ok"
    advice = f"run NTP on both machines (`timedatectl` shows whether it runs): {breaks}"
    return Check(part, name, verdict, found, "" if verdict == "ok" else advice)


def _syncs(facts: Facts) -> Iterator[Check]:
    if not facts.varz:
        how = facts.unseen.get("varz", "the monitoring port is not known")
        advice = (
            "give it with `--monitoring http://127.0.0.1:8222`, or read `sync_interval` in the broker's configuration"
        )
        yield Check("broker", "sync_interval", "unseen", how, advice)
    for varz in facts.varz:
        name = "sync_interval" if len(facts.varz) == 1 else f"sync_interval of {varz.get('server_name')}"
        yield _sync(name, varz["jetstream"].get("config", {}), facts)


def _sync(name: str, config: Mapping[str, Any], facts: Facts) -> Check:
    if config.get("sync_always"):
        return Check("broker", name, "ok", "always")
    interval = int(config.get("sync_interval", 0)) / NS
    found = f"every {in_words(interval)}: a power loss loses acknowledged events"
    advice = "set jetstream { sync_interval: always } in the broker's configuration"
    return Check("broker", name, "warning" if facts.development else "wrong", found, advice)


def _passwords(facts: Facts) -> Check:
    if facts.open_to_all:
        advice = "configure the users of deploy/nats: any client may publish and read everything"
        verdict: Verdict = "warning" if facts.development else "wrong"
        return Check("broker", "passwords", verdict, "the broker accepts clients without a user", advice)
    return Check("broker", "passwords", "ok", "required")


def _login(login: LoginProbe) -> Check:
    name, advice = f"user {login.user}", BROKER_CONFIG
    if login.why is not None:
        return Check("broker", name, "unseen", login.why)
    if login.opened or login.shut:
        found = [f"may {what}" for what in login.opened] + [f"may not {what}" for what in login.shut]
        return Check("broker", name, "wrong", ", ".join(found), advice)
    return Check("broker", name, "ok", "may do what it should, and nothing that only others may")


def _stream(facts: Facts, info: Mapping[str, Any]) -> Iterator[Check]:
    config, state = info["config"], info["state"]
    count = int(state["messages"])
    size = f"{_count(count, 'message')}, {in_bytes(state['bytes'])}"
    yield Check("stream", "stream", "ok", f"{STREAM}, {size}")
    yield _stores(facts)
    yield _epoch(config)
    yield _subjects(config)
    yield _is("storage", config.get("storage"), "file", "events are lost when the broker's process ends")
    yield _republish(config)
    yield _window(config)
    yield _is("message lifetimes", config.get("allow_msg_ttl", False), True, "ticks are kept as long as events")
    yield _is("atomic batches", config.get("allow_atomic", False), True, "services publish a backlog event by event")
    yield _largest(config)
    yield _is(
        "discard", config.get("discard"), "old", "a full stream refuses new events instead of dropping the oldest"
    )
    yield _is(
        "retention policy",
        config.get("retention"),
        "limits",
        "events are deleted before every client has received them",
    )
    yield _reach(facts, config, state)
    yield _anchors(state)


def _stores(facts: Facts) -> Check:
    """Check that the broker stores messages: everything else can be fine while it does not."""
    if facts.stores is None or "may not ask" in facts.stores:
        advice = "bring the broker's users up to date (deploy/nats)"
        return Check("stream", "stores", "unseen", facts.stores or "not tried", advice)
    if facts.stores:
        advice = (
            "make room on the broker's disk, or raise max_file_store or the stream's max_bytes; if the disk was full, "
            "restart nats-server once there is room, because it does not retry. Events wait in the outbox"
        )
        return Check("stream", "stores", "wrong", f"nothing: {facts.stores}", advice)
    return Check("stream", "stores", "ok", "a message was stored just now")


def _is(name: str, found: Any, wanted: Any, otherwise: str) -> Check:
    shown = {True: "allowed", False: "not allowed"}.get(found, found)
    if found == wanted:
        return Check("stream", name, "ok", str(shown))
    return Check("stream", name, "wrong", f"{shown}: {otherwise}", _declare_again(name))


def _declare_again(name: str) -> str:
    if name in ("storage", "retention policy"):  # the server does not allow changing these
        return f"delete the stream and run {SETUP}: every client will reload"
    return f"run {SETUP}: it updates the stream's configuration"


def _epoch(config: Mapping[str, Any]) -> Check:
    if epoch := epoch_of(config):
        return Check("stream", "epoch", "ok", epoch)
    advice = f"run {SETUP}: without an epoch, a recreated stream cannot be distinguished from the old one"
    return Check("stream", "epoch", "wrong", "none in the stream's metadata", advice)


def _subjects(config: Mapping[str, Any]) -> Check:
    missing = [subject for subject in STREAM_SUBJECTS if subject not in config.get("subjects", ())]
    if missing:
        found = f"{', '.join(missing)} missing: events published there are lost"
        return Check("stream", "subjects", "wrong", found, _declare_again("subjects"))
    return Check("stream", "subjects", "ok", " ".join(config["subjects"]))


def _republish(config: Mapping[str, Any]) -> Check:
    republish = config.get("republish") or {}
    if (republish.get("src"), republish.get("dest")) == (">", f"{LIVE_PREFIX}>") and not republish.get("headers_only"):
        return Check("stream", "republish", "ok", f"> to {LIVE_PREFIX}>")
    found = "gateways receive no live events, and read every event a second later"
    return Check("stream", "republish", "wrong", found, _declare_again("republish"))


def _largest(config: Mapping[str, Any]) -> Check:
    size = int(config.get("max_msg_size", -1))
    if size == MAX_MESSAGE_BYTES:
        return Check("stream", "max_msg_size", "ok", in_bytes(size))
    if 0 <= size < MAX_MESSAGE_BYTES:
        otherwise = "larger events are refused, although publishers may send them"
    else:
        otherwise = "with larger events, a client that does not read uses too much of a gateway's memory"
    found = f"{in_bytes(size) if size >= 0 else 'no limit'}: {otherwise}"
    return Check("stream", "max_msg_size", "wrong", found, _declare_again("max_msg_size"))


def _window(config: Mapping[str, Any]) -> Check:
    window_s = int(config.get("duplicate_window", 0)) / NS
    found = in_words(window_s)
    if window_s < DUPLICATE_WINDOW_S:
        found += ": an event whose acknowledgement was lost longer ago may be stored twice"
        return Check("stream", "duplicate_window", "wrong", found, f"run {SETUP}, which makes it 15 minutes")
    return Check("stream", "duplicate_window", "ok", found)


def _reach(facts: Facts, config: Mapping[str, Any], state: Mapping[str, Any]) -> Check:
    """Check how long a client may be away and still resume, at the rate of events so far."""
    age_s, size = int(config.get("max_age", 0)) / NS, int(config.get("max_bytes", -1))
    limits = f"kept {in_words(age_s) if age_s else 'forever'} or {in_bytes(size) if size > 0 else 'any size'}"
    if age_s <= 0 and size <= 0:
        advice = f"run {SETUP}: without a limit the disk fills up, and then the broker stores nothing"
        return Check("stream", "retention", "wrong", limits, advice)
    by_size_s = _time_to_fill(facts.now, size, state)
    reach_s = min(one for one in (age_s or None, by_size_s) if one is not None) if age_s or by_size_s else None
    if reach_s is None:
        return Check("stream", "retention", "ok", limits)
    found = f"{limits}: reaches back {in_words(reach_s)} at the rate so far"
    advice = (
        "raise the stream's max_bytes or max_age, and the broker's max_file_store: after longer, clients must reload"
    )
    return Check("stream", "retention", *_warn(reach_s < REACH_WARNING_S, found, advice))


def _time_to_fill(now: datetime, size: int, state: Mapping[str, Any]) -> float | None:
    if size <= 0 or not state.get("messages") or not state.get("bytes"):
        return None
    elapsed_s = max(60.0, (now - parse_time(state["first_ts"])).total_seconds())
    return size / (int(state["bytes"]) / elapsed_s)


def _anchors(state: Mapping[str, Any]) -> Check:
    count = sum((state.get("subjects") or {}).values())
    if count:
        return Check("stream", "anchor", "ok", f"{count}: the first offset shows what retention deleted")
    found = "none: once events have expired, clients that were away for minutes reload needlessly"
    return Check(
        "stream", "anchor", "warning", found, "start a gateway: it publishes one as soon as the stream is quiet"
    )


def _cluster(facts: Facts, info: Mapping[str, Any]) -> Iterator[Check]:
    replicas = int(info["config"].get("num_replicas", 1))
    yield _replicas(replicas, facts)
    cluster = info.get("cluster") or {}
    if replicas > 1 or facts.server.get("cluster"):
        yield _leader("stream leader", cluster.get("leader"), "events wait in the outbox until a majority is back")
        yield _meta_leader(facts)
    for server, copies in sorted(_copies(facts, info).items()):
        yield _replica(server, copies)


def _replicas(replicas: int, facts: Facts) -> Check:
    if replicas == 1 and not facts.development:
        advice = "run a cluster of three (docs/howto/deploy.md) and `beaconfire setup --replicas 3`"
        found = "1: events survive a crash of the broker, but not the loss of its disk"
        return Check("cluster", "replicas", "warning", found, advice)
    if replicas % 2 == 0:
        found = f"{replicas}: no safer than {replicas - 1}"
        return Check("cluster", "replicas", "warning", found, f"`beaconfire setup --replicas {replicas + 1}`")
    return Check("cluster", "replicas", "ok", str(replicas))


def _leader(name: str, leader: Any, otherwise: str) -> Check:
    if leader:
        return Check("cluster", name, "ok", str(leader))
    return Check("cluster", name, "wrong", f"none: {otherwise}", "start the servers that are down, and read their logs")


def _meta_leader(facts: Facts) -> Check:
    """Check for a meta leader: only it answers for the account."""
    if facts.account is None:
        return _leader("meta leader", None, "no stream can be declared, and no consumer created for a long read")
    named = [varz["jetstream"].get("meta", {}).get("leader") for varz in facts.varz]
    return _leader("meta leader", next(filter(None, named), "there is one"), "")


def _copies(facts: Facts, info: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the copies that each server holds, by stream. The leader of a stream is not among them."""
    streams = {STREAM: info, DEADLETTERS: facts.deadletters, KV_STREAM: facts.catalogue_bucket}
    streams |= {BUCKETS[name].stream: bucket for name, bucket in facts.buckets.items()}
    copies: dict[str, dict[str, Mapping[str, Any]]] = {}
    for stream, one in streams.items():
        for replica in ((one or {}).get("cluster") or {}).get("replicas") or ():
            copies.setdefault(str(replica.get("name")), {})[stream] = replica
    return copies


def _replica(server: str, copies: Mapping[str, Mapping[str, Any]]) -> Check:
    name = f"replica {server}"
    if any(one.get("offline") for one in copies.values()):
        return Check("cluster", name, "wrong", "offline", "start it: if one more is lost, nothing is stored")
    late = {stream: int(one.get("lag", 0)) for stream, one in copies.items() if not one.get("current")}
    if late:
        found = ", ".join(f"{stream} is {lag:,} behind" for stream, lag in late.items())
        advice = "read its log and check its disk. It catches up automatically once it can"
        return Check("cluster", name, "wrong", f"not current: {found}", advice)
    return Check("cluster", name, "ok", f"current in {', '.join(copies)}")


def _consumers(facts: Facts, info: Mapping[str, Any]) -> Iterator[Check]:
    if facts.consumers is None:
        yield _unseen(facts, "consumers", "workers", "consumers")
        return
    named = {str(one["name"]): one for one in facts.consumers}
    for name in DURABLES:
        if name not in named:
            part = "auth" if name == "auth-parents" else f"the worker {name}"
            yield Check(
                "workers", name, "warning", "has no consumer: the service has not run on this stream", f"start {part}"
            )
    for name, one in sorted(named.items()):
        if one.get("config", {}).get("durable_name"):
            yield _consumer(name, one, int(info["state"]["last_seq"]), facts)


def _consumer(name: str, one: Mapping[str, Any], last: int, facts: Facts) -> Check:
    waiting, place = int(one.get("num_pending", 0)), int(one.get("delivered", {}).get("stream_seq", 0))
    if place > last:
        found = f"stands at {place:,}, behind the end of the stream at {last:,}: it skips the next events"
        advice = f"delete the consumer {name} (`nats consumer rm {STREAM} {name}`); its service creates it again"
        return Check("workers", name, "wrong", found, advice)
    if int(one.get("num_redelivered", 0)):
        return _redelivered(name, one, facts)
    if waiting > LAG_WARNING:
        advice = f"check that {name} runs, and read its log"
        return Check("workers", name, "warning", _wait(waiting, "message"), advice)
    return Check("workers", name, "ok", _wait(waiting, "message"))


def _redelivered(name: str, one: Mapping[str, Any], facts: Facts) -> Check:
    """Report a consumer that redelivers messages: which message blocks it, and for how long."""
    waiting, floor = int(one.get("num_pending", 0)), one.get("ack_floor", {})
    if int(one.get("num_ack_pending", 0)) == 1:  # it is the last one delivered
        which = f"message {one['delivered']['stream_seq']:,}"
    else:
        which = f"the first message after {floor['stream_seq']:,}"
    since = floor.get("last_active")
    still_s = (facts.now - parse_time(since)).total_seconds() if since else facts.stuck_s
    found = f"{_wait(waiting, 'message')} behind {which} of {STREAM}, which is redelivered again and again"
    advice = f"read the log of {name}: it shows why that message fails (`nats stream get {STREAM} NUMBER` shows it)"
    return Check("workers", name, "wrong" if still_s >= facts.stuck_s else "warning", found, advice)


def _deadletters(facts: Facts) -> Iterator[Check]:
    if facts.deadletters is None:
        yield _unseen(facts, "deadletters", "workers", "dead letters")
    elif not facts.deadletters:
        found = f"there is no stream {DEADLETTERS}: dead letters are lost"
        yield Check("workers", "dead letters", "wrong", found, f"run {SETUP}")
    else:
        state = facts.deadletters["state"]
        count = int(state["messages"])
        if count:
            found = f"{count:,}, the last {in_words((facts.now - parse_time(state['last_ts'])).total_seconds())} ago"
            yield Check(
                "workers", "dead letters", "warning", found, "`beaconfire deadletters` shows them with the reasons"
            )
        else:
            yield Check("workers", "dead letters", "ok", "none")


def _buckets(facts: Facts) -> Iterator[Check]:
    """Report the buckets of the gateways: whether they are there, and whether each has as many copies as the stream."""
    wanted = int(facts.stream["config"].get("num_replicas", 1)) if facts.stream else None
    for name, info in facts.buckets.items():
        bucket = f"bucket {name}"
        if info is None:
            yield _unseen(facts, bucket, "gateways", bucket)
        elif not info:
            found = f"it is missing: {BUCKETS[name].purpose}"
            yield Check("gateways", bucket, "wrong", found, f"run {SETUP}")
        elif wanted is not None and (copies := int(info["config"].get("num_replicas", 1))) != wanted:
            found = f"it has {copies} replicas, and the stream of events has {wanted}"
            yield Check("gateways", bucket, "warning", found, f"run {SETUP}")
        else:
            yield Check("gateways", bucket, "ok", f"{int(info['state']['messages']):,} records")


def _services(facts: Facts) -> Iterator[Check]:
    if not facts.services:
        advice = "give each of them with `--service-ops http://gateway:9090`"
        yield Check("services", "readiness", "unseen", "no service was given", advice)
    for one in facts.services:
        verdict: Verdict = "ok" if one.ready else "wrong"
        advice = "" if one.ready else "read its log"
        yield Check("services", one.url, verdict, one.said, advice, one.service, one.version)
        for warning in one.warnings:
            found, _, advice = warning.partition(": ")
            yield Check("services", one.url, "warning", found, advice, one.service, one.version)


def _outboxes(facts: Facts) -> Iterator[Check]:
    """Report which process sends, each root with events that have waited for long, and the events that were refused."""
    for what, why in facts.unseen.items():
        if what.startswith(OUTBOX_OF):
            advice = "check the database, and its URL in `--database SERVICE=URL`"
            yield Check("outbox", what.removeprefix(OUTBOX_OF), "unseen", why, advice)
    for box in facts.outboxes:
        late = [root for root in box.waiting if root.oldest_s > STALE_S]
        yield _relay(box, bool(late))
        for root in late:
            found = (
                f"{_wait(root.events, 'event')} behind event {root.event_id} ({root.subject}), "
                f"the oldest for {in_words(root.oldest_s)}"
            )
            advice = (
                f"the log of {box.service} has the reason: `an event was not acknowledged, trying again` or "
                "`cannot look for old events in the stream, trying again`"
            )
            yield Check("outbox", f"{box.service} {root.root}", "warning", found, advice)
        if box.refused:
            found = f"the broker refused {_count(box.refused_events, 'event')}, the last: {box.refused[-1].reason}"
            advice = f"fix the cause, then run `beaconfire outbox {box.service} --resend-all`"
            yield Check("outbox", box.service, "warning", found, advice)
        elif not late:
            yield Check("outbox", box.service, "ok", "no event has waited for long, and none was refused")


def _relay(box: OutboxSeen, is_late: bool) -> Check:
    """Report the process that sends the events of an outbox. While none waits, it has nothing to renew."""
    name, relay = f"relay of {box.service}", box.relay
    start = f"no process sends its events now: read the log of {box.service}, and start it if it does not run"
    if relay is None:
        return Check("outbox", name, "wrong" if is_late else "ok", "no process has sent anything yet", start * is_late)
    who = relay.name or "none: the last one stopped in order"
    found = f"{who}, active {in_words(max(0.0, relay.renewed_s))} ago"
    if is_late and (not relay.name or relay.renewed_s > RELAY_SILENT_S):
        return Check("outbox", name, "wrong", found, start)
    return Check("outbox", name, "ok", found)


def _unseen(facts: Facts, what: str, part: str, name: str, verdict: Verdict = "unseen") -> Check:
    """Report what could not be seen."""
    why = facts.unseen.get(what, "not seen")
    if "may not ask" in why:
        advice = "bring the broker's users up to date (deploy/nats), or ask as the user `setup`"
    else:
        advice = "is JetStream on? In a cluster, a majority must run: start the servers that are down"
    return Check(part, name, verdict, why, advice)


def _warn(is_so: bool, found: str, advice: str) -> tuple[Verdict, str, str]:
    return ("warning", found, advice) if is_so else ("ok", found, "")


def worst(checks: Iterable[Check]) -> Verdict:
    """Return `wrong` if any check is wrong, else `warning` if any is a warning, else `ok`."""
    verdicts = {check.verdict for check in checks}
    return next((one for one in _BY_WEIGHT if one in verdicts), "ok")


_BY_WEIGHT: tuple[Verdict, ...] = ("wrong", "warning")


def parse_time(text: str) -> datetime:
    """Parse a time of the broker: RFC 3339 with nanoseconds."""
    whole, _, rest = text.partition(".")
    if rest:
        digits = rest.rstrip("Z").partition("+")[0].partition("-")[0]
        return datetime.fromisoformat(f"{whole}.{digits[:6]:0<6}").replace(tzinfo=UTC)
    return datetime.fromisoformat(whole.replace("Z", "")).replace(tzinfo=UTC)


_SPANS = ((24 * 3600, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def in_words(seconds: float) -> str:
    """Return a duration in words: in the largest unit that fits twice, or exactly once."""
    for size, unit in _SPANS:
        if seconds >= 2 * size or seconds == size:
            number = f"{seconds / size:,.1f}".removesuffix(".0")
            return f"{number} {unit if number != '1' else unit[:-1]}"
    return f"{seconds:.1f} seconds"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _wait(count: int, what: str) -> str:
    return f"{_count(count, what)} {'waits' if count == 1 else 'wait'}"


def in_bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,.1f}".removesuffix(".0") + f" {unit}"
        count /= 1024
    raise AssertionError

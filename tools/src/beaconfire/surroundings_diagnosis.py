"""Judge what a deployment stands on: versions, clocks, disks, certificates, and secrets that expire. No I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from beaconfire.diagnosis import SKEW_WARNING_S, Check, Readiness, Verdict, clock, in_bytes, in_words
from beaconfire.outboxes import Seen as OutboxSeen
from beaconfire.surroundings import Credentials, Disk, Door

LOW_BYTES = 1024**3
EMPTY_BYTES = 256 * 1024**2
"""Below this, a burst of events or one checkpoint of SQLite can fill the disk."""
NEARLY_FULL = 0.9
CERTIFICATE_WARNING = timedelta(days=21)
"""ACME renews 30 days before the end. A certificate that is younger than this was not renewed."""
TOKEN_WARNING = timedelta(days=14)
USED_LATELY = timedelta(days=7)


def versions(services: Sequence[Readiness], ours: str) -> Iterator[Check]:
    """Compare the versions of services with that of this command, and with one another."""
    known = {one.url: one.version for one in services if one.version}
    if not known:
        if services:
            advice = "give the operations ports of the services: public ports do not tell their version"
            yield Check("versions", "versions", "unseen", "no service told its version", advice)
        return
    others = {url: version for url, version in known.items() if version != ours}
    if not others:
        yield Check("versions", "versions", "ok", f"{ours}: this command and {len(known)} services")
        return
    found = f"this command is {ours}, " + ", ".join(f"{url} is {version}" for url, version in sorted(others.items()))
    if all(are_neighbours(ours, version) for version in others.values()):
        advice = "this is allowed during an upgrade: finish it (docs/howto/deploy.md, Upgrading)"
        yield Check("versions", "versions", "warning", found, advice)
    else:
        advice = "these versions were never tested together: upgrade one minor version after the other"
        yield Check("versions", "versions", "wrong", found, advice)


def are_neighbours(one: str, other: str) -> bool:
    """Return whether two versions may run next to each other: one is at most one minor version older."""
    (major, minor), (their_major, their_minor) = _numbers(one), _numbers(other)
    return major == their_major and abs(minor - their_minor) <= 1


def _numbers(version: str) -> tuple[int, int]:
    parts = [int(part) if part.isdigit() else 0 for part in [*version.split("."), "0"][:2]]
    return parts[0], parts[1]


_BREAKS = {
    "database": "the times of changes and of the outbox's events depend on it",
    "service": "tokens are refused too early or accepted too long, and limits per minute are off",
}


def clocks(services: Sequence[Readiness], outboxes: Sequence[OutboxSeen]) -> Iterator[Check]:
    """Compare the clocks of databases and services with that of this machine."""
    seen = [(f"clock of the database of {one.service}", one.skew_s, "database") for one in outboxes]
    seen += [(f"clock of {one.url}", one.skew_s, "service") for one in services]
    for name, skew_s, what in seen:
        if skew_s is not None and (what == "database" or abs(skew_s) > SKEW_WARNING_S):
            yield clock("clocks", name, skew_s, _BREAKS[what])


_CHANGES_FAIL = "changes fail"
_EVENTS_WAIT = "events wait in the outbox until you have freed space and restarted nats-server"


def disks(seen: Iterable[Disk], stream: Mapping[str, Any] | None) -> Iterator[Check]:
    """Judge the free space. The broker also needs what the stream may still grow by."""
    for disk in seen:
        name = f"disk of {disk.what}"
        found = f"{in_bytes(disk.free_bytes)} of {in_bytes(disk.size_bytes)} are free at {disk.folder}"
        is_brokers = disk.what.startswith("the broker")
        more, meanwhile = (_growth(stream), _EVENTS_WAIT) if is_brokers else (0, _CHANGES_FAIL)
        advice = f"free some space (`df -h {disk.folder}`), or move {disk.what} to a larger disk"
        if disk.free_bytes < EMPTY_BYTES:
            yield Check("disks", name, "wrong", found, f"{advice}: while it is full, {meanwhile}")
        elif disk.free_bytes < LOW_BYTES:
            yield Check("disks", name, "warning", found, advice)
        elif disk.free_bytes < more:
            found += f", and the stream may grow by {in_bytes(more)} before it drops its oldest events"
            yield Check("disks", name, "warning", found, advice)
        else:
            yield Check("disks", name, "ok", found)


def _growth(stream: Mapping[str, Any] | None) -> int:
    size = int(stream["config"].get("max_bytes", -1)) if stream else -1
    return max(0, size - int(stream["state"]["bytes"])) if stream and size > 0 else 0


def rooms(
    account: Mapping[str, Any] | None, varz: Sequence[Mapping[str, Any]], more: Mapping[str, Any]
) -> Iterator[Check]:
    """Judge how nearly the storage of the broker, and of streams that refuse more, is used up."""
    for page in varz:
        limit = int(page["jetstream"].get("config", {}).get("max_storage", 0))
        used = int(page["jetstream"].get("stats", {}).get("storage", 0))
        where = "" if len(varz) == 1 else f" of {page.get('server_name')}"
        if limit > 0:
            yield _room(f"max_file_store{where}", used, limit, "raise max_file_store: at the limit nothing is stored")
    limit = int((account or {}).get("limits", {}).get("max_storage", -1))
    if limit > 0:
        yield _room("account's storage", int((account or {})["storage"]), limit, "raise max_storage of the account")
    for name, info in more.items():
        size = int(info["config"].get("max_bytes", -1)) if info else -1
        if size > 0 and int(info["state"]["bytes"]) > NEARLY_FULL * size:
            yield _room(name, int(info["state"]["bytes"]), size, "run `beaconfire setup`, or raise its max_bytes")


def _room(name: str, used: int, limit: int, advice: str) -> Check:
    found = f"{in_bytes(used)} of {in_bytes(limit)} are used"
    if used > NEARLY_FULL * limit:
        return Check("disks", name, "warning", found, advice)
    return Check("disks", name, "ok", found)


def doors(seen: Iterable[Door], at: datetime, *, development: bool) -> Iterator[Check]:
    """Judge the addresses that clients use."""
    for door in seen:
        yield _door(door, at, development)


def _door(door: Door, at: datetime, development: bool) -> Check:
    if not door.has_tls:
        if door.problem:
            return Check("doors", door.url, "wrong", door.problem, "correct the address, or start the proxy")
        verdict: Verdict = "ok" if development else "warning" if door.is_private else "wrong"
        advice = "" if verdict == "ok" else "use HTTPS: otherwise tokens can be read on the way (deploy.md, TLS)"
        return Check("doors", door.url, verdict, "without TLS", advice)
    names = ", ".join(door.names) or "no names"
    left = (door.expires - at) if door.expires else timedelta()
    ends = f"for {names}, until {door.expires:%Y-%m-%d}" if door.expires else f"for {names}"
    renew = "renew the certificate, and find out why it was not renewed (`docker compose logs proxy`)"
    if left <= timedelta():
        return Check("doors", door.url, "wrong", f"its certificate has expired: {ends}", renew)
    if door.problem:
        advice = "clients need a certificate that they trust, for this name (deploy.md, TLS)"
        return Check("doors", door.url, "wrong", f"its certificate is not trusted ({door.problem}): {ends}", advice)
    if left < CERTIFICATE_WARNING:
        return Check(
            "doors", door.url, "warning", f"its certificate expires in {in_words(left.total_seconds())}: {ends}", renew
        )
    return Check("doors", door.url, "ok", f"its certificate is trusted: {ends}")


def broker_door(url: str, has_tls: bool, private: bool) -> Check:
    """Judge the way to the broker, on which events and passwords travel."""
    if has_tls:
        return Check("broker", "encryption", "ok", "TLS")
    if private:
        return Check("broker", "encryption", "ok", "none, on this machine or a private network")
    advice = "keep the broker on a private network, or add TLS to it and use tls:// in BEACONFIRE_NATS_URL"
    return Check("broker", "encryption", "wrong", f"none, and {url} is a public address", advice)


def expiries(seen: Credentials, at: datetime) -> Iterator[Check]:
    """Judge the signing keys, and service tokens that end while they are in use."""
    signing = [key for key in seen.keys if key["state"] == "signing"]
    states = ", ".join(f"{key['kid']} ({key['state']})" for key in seen.keys)
    if signing:
        yield Check("credentials", "signing keys", "ok", states)
    else:
        advice = "run `beaconfire keys rotate --lead 0`: until then auth cannot sign tokens"
        yield Check("credentials", "signing keys", "wrong", f"none signs: {states or 'there is none'}", advice)
    valid = [token for token in seen.service_tokens if not token["revokedAt"]]
    for token in valid:
        if not token["expiresAt"]:
            continue
        left = _moment(token["expiresAt"]) - at
        used = token["usedAt"] and at - _moment(token["usedAt"]) < USED_LATELY
        again = f"`beaconfire service-token issue {token['service']} {' '.join(map(repr, token['publish']))}`"
        if left > TOKEN_WARNING or not used:
            continue
        verdict: Verdict = "wrong" if left <= timedelta() else "warning"
        ends = "has expired" if verdict == "wrong" else f"expires in {in_words(left.total_seconds())}"
        found = f"{token['id']} {ends}, and was used within the last week"
        yield Check("credentials", f"token of {token['service']}", verdict, found, f"issue another: {again}")
    yield Check("credentials", "service tokens", "ok", f"{len(valid)} that are not revoked")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)

"""A key-value bucket of the broker: read, write on a condition, delete (NATS ADR-8).

Reads ask the stream's leader, so they see every write that was acknowledged. A write that got no answer is repeated
with the same `Nats-Msg-Id`, so it is stored once and its caller learns what became of it. Every call waits for the
broker as long as it takes: bound it with `asyncio.timeout`.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.broker import MESSAGE_NOT_FOUND, NS, NoSuchStream

DUPLICATE_WINDOW_S = 120
TOMBSTONE_S = 7 * 24 * 3600
"""How long the bucket remembers a deleted key."""
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_OPERATION = "KV-Operation"


class BucketMissing(Exception):
    """The broker has no such bucket."""


def stream_of(bucket: str) -> str:
    """Return the name of the stream that holds a bucket."""
    return f"KV_{bucket}"


@dataclass(frozen=True, slots=True)
class Entry:
    """The last write of a key."""

    value: bytes
    at: int
    """The bucket's sequence number of this write, for a write on condition."""
    deleted: bool


class KeyValue:
    """One bucket. Reading needs STREAM.MSG.GET of its stream, `keys` STREAM.INFO, and writing `$KV.<bucket>.>`."""

    def __init__(self, nc: Client, bucket: str) -> None:
        self._nc = nc
        self.stream = stream_of(bucket)
        self._prefix = f"$KV.{bucket}."

    async def declare(self, *, replicas: int | None = None, max_bytes: int, max_value_bytes: int) -> None:
        """Create the bucket, or update it. Without `replicas`, it keeps its number, and a new one has 1."""
        there = await broker.config_of(self._nc, self.stream)
        config: dict[str, Any] = {
            "name": self.stream,
            "subjects": [f"{self._prefix}>"],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": replicas or there.get("num_replicas", 1),
            "max_msgs_per_subject": 1,
            "max_bytes": max_bytes,
            "max_msg_size": max_value_bytes,
            "duplicate_window": DUPLICATE_WINDOW_S * NS,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": False,
            "allow_msg_ttl": True,
        }
        await self._call("UPDATE" if there else "CREATE", config)

    async def declare_passing(self, *, replicas: int, kept_s: int, max_keys: int, max_value_bytes: int) -> None:
        """Create the bucket, or update it, for values that live `kept_s` seconds after their last write.

        No write waits for a disk. Replicas keep the values in memory. A single server keeps them in a file, because it
        would forget the bucket itself at a restart. It writes that file late, so a crash takes the last writes away,
        and may bring back an older value of a key. The bucket is made again, empty, if its storage must change. It
        reserves no space: it has a bound of keys, and the broker has one of bytes. Raises BrokerRefused.
        """
        there = await broker.config_of(self._nc, self.stream)
        storage = {"storage": "memory"} if replicas > 1 else {"storage": "file", "persist_mode": "async"}
        config: dict[str, Any] = {
            "name": self.stream,
            "subjects": [f"{self._prefix}>"],
            "retention": "limits",
            "discard": "new",
            **storage,
            "num_replicas": replicas,
            "max_msgs_per_subject": 1,
            "max_msgs": max_keys,
            "max_msg_size": max_value_bytes,
            "max_age": kept_s * NS,
            "duplicate_window": min(DUPLICATE_WINDOW_S, kept_s) * NS,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": False,
            "allow_msg_ttl": True,
        }
        if there and any(there.get(field) != value for field, value in storage.items()):
            await self._call("DELETE", {})
            there = {}
        await self._call("UPDATE" if there else "CREATE", config)

    async def last(self, key: str) -> Entry | None:
        """Return the last write of a key, also if it deleted the key. Raises BucketMissing, MayNotPublish."""
        which = {"last_by_subj": self._prefix + key}
        found = await self._call("MSG.GET", which, missing=frozenset({MESSAGE_NOT_FOUND}))
        if found is None:
            return None
        message = found["message"]
        headers = base64.b64decode(message.get("hdrs", ""))
        return Entry(base64.b64decode(message.get("data", "")), message["seq"], _OPERATION.encode() in headers)

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key. Raises BucketMissing."""
        entry = await self.last(key)
        return None if entry is None or entry.deleted else entry.value

    async def keys(self, pattern: str) -> list[str]:
        """Return the keys that match, as NATS matches, deleted ones included. Raises BucketMissing."""
        info = await self._call("INFO", {"subjects_filter": self._prefix + pattern}) or {}
        return [subject.removeprefix(self._prefix) for subject in (info["state"].get("subjects") or {})]

    async def put(self, key: str, value: bytes, *, after: int | None = None, kept_s: int | None = None) -> int:
        """Write a value. Returns the sequence number of this write.

        With `kept_s`, the value lives so many seconds at most. With `after`, it is only written if the last write of
        the key had that number; 0 stands for a key that was never written. Raises WrongSequence if it had another,
        BrokerRefused, MayNotPublish.
        """
        return await self._write(key, value, _ttl(kept_s), after)

    async def try_to_put(self, key: str, value: bytes, *, after: int, timeout_s: float = 2.0) -> int:
        """Write a value as `put` does, but once. Raises also NotAcknowledged (see `broker.try_to_publish`)."""
        return await broker.try_to_publish(
            self._nc,
            self._prefix + key,
            value,
            message_id=uuid.uuid4().hex,
            headers={EXPECTED: str(after)},
            timeout_s=timeout_s,
        )

    async def delete(self, key: str, *, after: int, forget: bool = True) -> None:
        """Delete a key whose last write had the number `after`. Raises as `put` does.

        With `forget`, the bucket forgets after `TOMBSTONE_S` that there ever was such a key.
        """
        await self._write(key, b"", {_OPERATION: "DEL", **_ttl(TOMBSTONE_S if forget else None)}, after)

    async def _write(self, key: str, value: bytes, headers: dict[str, str], after: int | None) -> int:
        if after is not None:
            headers = {**headers, EXPECTED: str(after)}
        return await broker.publish(self._nc, self._prefix + key, value, message_id=uuid.uuid4().hex, headers=headers)

    async def _call(
        self, call: str, request: Mapping[str, Any], *, missing: frozenset[int] = frozenset()
    ) -> dict[str, Any] | None:
        try:
            return await broker.call_api(self._nc, f"STREAM.{call}.{self.stream}", request, missing=missing)
        except NoSuchStream:
            raise BucketMissing(f"the broker has no stream {self.stream}: `beaconfire setup` creates it") from None


def _ttl(seconds: int | None) -> dict[str, str]:
    """The header of a write that the bucket forgets after so many seconds."""
    return {} if seconds is None else {"Nats-TTL": f"{seconds}s"}

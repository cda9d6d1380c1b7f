"""Carry the events of a bus on Redis Streams onto the broker, at least once. Usage: python redis_bridge.py

An entry is acknowledged to Redis after the broker has stored its event. Its id is the `Nats-Msg-Id`, so the broker
drops an event that is published again within 15 minutes. README.md lists the settings.
"""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.exit_on_signal()  # before the other imports, which take a second

import asyncio
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from nats.aio.client import Client
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from beaconfire_kit import broker, logs
from beaconfire_kit.settings import Settings, read_settings
from bus_entries import Message, Rule, WrongEntry, WrongRules, message_of, read_rules, rule_for, type_of

log = logs.get(__name__)

BATCH = 100
"""Entries that are read at a time."""
WAIT_S = 1.0
"""How long Redis waits for a new entry before it answers that there is none."""
ANSWER_S = 5.0
"""The time in which Redis must answer. Longer than WAIT_S."""
PAUSE_S = 0.5
"""The pause before Redis is tried again."""
DENIED_S = 2.0
"""The pause before an event is tried again that the broker's permissions do not allow."""
MAX_SKIPPED_TYPES = 1_000
"""Types without a rule that are remembered, so that each is logged once."""

Entry = tuple[bytes, Mapping[bytes, bytes] | None]


class BridgeSettings(Settings):
    """The settings of the bridge, in `BEACONFIRE_…` variables. `nats_url`, user and password are those of services."""

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="The bus, as redis:// or rediss://")
    redis_streams: Annotated[tuple[str, ...], NoDecode] = Field(("bus",), min_length=1, description="Comma-separated")
    redis_group: str = Field("beaconfire", min_length=1, description="The consumer group; it is created if missing")
    redis_consumer: str = Field("bridge", min_length=1, description="The name of this bridge in the group")
    redis_claim_after_s: float = Field(60.0, gt=0, description="When the entries of a bridge that ended are taken over")
    redis_max_set_aside: int = Field(100_000, ge=1, description="Entries that are kept aside, per stream; about")
    bridge_rules: Path = Field(Path(__file__).with_name("subjects.toml"), description="The file of rules")

    @field_validator("redis_streams", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


class Bridge:
    """Reads entries as one consumer of a group, and publishes them one after the other."""

    def __init__(self, redis: Redis, nc: Client, rules: Sequence[Rule], settings: BridgeSettings) -> None:
        self._redis = redis
        self._nc = nc
        self._rules = rules
        self._settings = settings
        self._streams = [name.encode() for name in settings.redis_streams]
        self._group = settings.redis_group
        self._skipped: set[str] = set()

    async def run(self) -> None:
        """Carry entries until it is cancelled, also across outages of Redis and the broker."""
        while True:
            try:
                await self._carry()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("Redis failed, trying again", error=type(error).__name__, detail=str(error)[:200])
            await asyncio.sleep(PAUSE_S)

    async def _carry(self) -> None:
        """Carry entries until Redis fails.

        It starts with entries that were handed to this consumer and never acknowledged, because an answer of Redis, or
        this process, was lost.
        """
        await self._create_groups()
        log.info("reads the bus", streams=self._settings.redis_streams, group=self._group)
        await self._carry_pending()
        claim_at = time.monotonic()
        while True:
            if time.monotonic() >= claim_at:
                await self._carry_claimed()
                claim_at = time.monotonic() + self._settings.redis_claim_after_s / 2
            await self._carry_entries(await self._read(dict.fromkeys(self._streams, b">"), block=int(WAIT_S * 1_000)))

    async def _create_groups(self) -> None:
        for stream in self._streams:
            try:
                await self._redis.xgroup_create(stream, self._group, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def _carry_pending(self) -> None:
        after = dict.fromkeys(self._streams, b"0")
        while after:
            found = await self._read(after, block=None)
            await self._carry_entries(found)
            after = {stream: entries[-1][0] for stream, entries in found.items() if entries}

    async def _carry_claimed(self) -> None:
        """Take over the entries of bridges that ended and do not come back under their name."""
        idle_ms = int(self._settings.redis_claim_after_s * 1_000)
        for stream in self._streams:
            start = b"0-0"
            while True:
                start, entries, *_ = await self._redis.xautoclaim(
                    stream, self._group, self._settings.redis_consumer, idle_ms, start, count=BATCH
                )
                await self._carry_entries({stream: entries})
                if start == b"0-0":
                    break

    async def _read(self, after: Mapping[bytes, bytes], *, block: int | None) -> dict[bytes, list[Entry]]:
        group, consumer, streams = self._group, self._settings.redis_consumer, dict[Any, Any](after)
        found: Any = await self._redis.xreadgroup(group, consumer, streams, count=BATCH, block=block)
        return dict(found or ())

    async def _carry_entries(self, found: Mapping[bytes, Sequence[Entry]]) -> None:
        for stream, entries in found.items():
            for id_, fields in entries:
                await self._carry_one(stream, id_, fields)

    async def _carry_one(self, stream: bytes, id_: bytes, fields: Mapping[bytes, bytes] | None) -> None:
        if not fields:
            log.error("the bus removed an entry before it was published", stream=stream.decode(), entry=id_.decode())
            await self._redis.xack(stream, self._group, id_)
            return
        try:
            type_ = type_of(fields)
            rule = rule_for(type_, self._rules)
            if rule is None:
                self._skip(type_)
            else:
                await self._publish(message_of(fields, rule))
        except (WrongEntry, broker.BrokerRefused) as error:
            await self._set_aside(stream, id_, fields, str(error))
        else:
            await self._redis.xack(stream, self._group, id_)

    async def _publish(self, message: Message) -> None:
        """Publish until the broker has stored it. Raises BrokerRefused if it can never be stored."""
        while True:
            try:
                await broker.publish(self._nc, message.subject, message.body, message_id=message.id)
                return
            except broker.MayNotPublish as error:  # a wrong permission is no fault of the entry: nothing is lost
                log.error("may not publish, trying again", subject=message.subject, reason=str(error)[:200])
            await asyncio.sleep(DENIED_S)

    async def _set_aside(self, stream: bytes, id_: bytes, fields: Mapping[bytes, bytes], reason: str) -> None:
        """Move an entry out of the way, with the reason. Both steps happen or none."""
        log.warning("set an entry aside", stream=stream.decode(), entry=id_.decode(), reason=reason[:300])
        kept: dict[Any, Any] = {**fields, b"bridge.entry": id_, b"bridge.reason": reason.encode()}
        async with self._redis.pipeline(transaction=True) as both:
            both.xadd(stream + b":set-aside", kept, maxlen=self._settings.redis_max_set_aside, approximate=True)
            both.xack(stream, self._group, id_)
            await both.execute()

    def _skip(self, type_: str) -> None:
        if type_ not in self._skipped and len(self._skipped) < MAX_SKIPPED_TYPES:
            self._skipped.add(type_)
            log.info("no rule for a type, its entries are skipped", type=type_[:128])


async def main(settings: BridgeSettings, rules: Sequence[Rule]) -> int:
    """Run the bridge until SIGTERM or SIGINT. Returns the exit code."""
    code, task = 0, asyncio.current_task()
    assert task is not None

    def lost() -> None:
        nonlocal code
        code = 1
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    # The client must not repeat a read: the entries of a lost answer are pending, and are read as such.
    redis = Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
    )
    nc: Client | None = None
    try:
        nc = await broker.connect(settings, "redis-bridge", on_closed=lost)
        await Bridge(redis, nc, rules, settings).run()
    except asyncio.CancelledError:
        log.info("stopped")
    finally:
        if nc is not None:
            await broker.close(nc)
        await redis.aclose()
    return code


if __name__ == "__main__":
    chosen = read_settings(BridgeSettings)
    logs.configure("redis-bridge", level=chosen.log_level, format=chosen.log_format)
    try:
        rules_read = read_rules(chosen.bridge_rules.read_text())
    except (OSError, UnicodeDecodeError, WrongRules) as problem:
        sys.exit(f"{chosen.bridge_rules}: {problem}")
    sys.exit(asyncio.run(main(chosen, rules_read)))

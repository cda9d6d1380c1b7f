"""examples/redis-streams: a bus on a real Redis reaches real sockets, whatever ends in between."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire.broker_users import Publisher
from beaconfire.nats_server import NatsServer
from beaconfire.processes import Process
from beaconfire_kit import broker
from beaconfire_kit.roles import Role
from tests.architecture.sources import ROOT
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.e2e.conftest import Line
from tests.examples.redis_server import RedisServer
from tests.people import Person

BRIDGE = ROOT / "examples" / "redis-streams" / "redis_bridge.py"
COUNT = 300
END_S = 30.0

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Bridges:
    """Bridges between the Redis and a broker, which end with the test."""

    def __init__(self, redis: RedisServer, folder: Path) -> None:
        self._redis = redis
        self._folder = folder
        self._started: list[Process] = []

    def start(self, nats: NatsServer, user: str = "publisher", **settings: str) -> Process:
        chosen = {f"BEACONFIRE_{name.upper()}": value for name, value in settings.items()}
        bridge = Process(
            "bridge",
            [sys.executable, str(BRIDGE)],
            log_path=self._folder / f"bridge-{len(self._started)}.log",
            environment={**nats.environment(user), "BEACONFIRE_REDIS_URL": self._redis.url, **chosen},
        )
        self._started.append(bridge)
        bridge.start()
        return bridge

    def kill(self) -> None:
        for bridge in self._started:
            bridge.kill()


@pytest.fixture(name="bridges")
def _bridges(redis: RedisServer, tmp_path: Path) -> Iterator[Bridges]:
    bridges = Bridges(redis, tmp_path)
    yield bridges
    bridges.kill()


@pytest.fixture(name="stored")
async def _stored(stream: NatsServer) -> AsyncIterator["Stored"]:
    async with connected(stream, "operator") as nc:
        yield Stored(nc)


class Stored:
    """What the broker's stream contains."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc

    async def count(self) -> int:
        """The number of events."""
        info = await broker.call_api(self._nc, f"STREAM.INFO.{broker.STREAM}", {"subjects_filter": "workspace.>"})
        assert info is not None
        return sum((info["state"].get("subjects") or {}).values())

    async def ids(self, count: int) -> list[str]:
        """The ids of all events in their order, once there are this many or more."""
        while await self.count() < count:
            await asyncio.sleep(0.05)
        info = await broker.call_api(self._nc, f"STREAM.INFO.{broker.STREAM}", {})
        assert info is not None
        last = int(info["state"]["last_seq"])
        found = [await self._event(offset) for offset in range(1, last + 1)]
        return [one["id"] for one in found if one]

    async def _event(self, offset: int) -> dict[str, Any]:
        answer = await broker.call_api(
            self._nc, f"STREAM.MSG.GET.{broker.STREAM}", {"seq": offset}, missing=frozenset({broker.MESSAGE_NOT_FOUND})
        )
        if answer is None or not answer["message"]["subject"].startswith("workspace."):
            return {}
        event: dict[str, Any] = json.loads(base64.b64decode(answer["message"]["data"]))
        return event


def entry(id_: str, type_: str = "approval.updated", **changes: str) -> dict[str, str | bytes]:
    """One entry of the bus."""
    return {
        "id": id_,
        "type": type_,
        "source": "approvals",
        "timestamp": "2026-11-21T10:00:00Z",
        "correlationId": f"req-{id_}",
        "tenantId": "w-bus",
        "userId": "u7",
        "version": "1",
        "data": '{"id": "a1", "status": "approved"}',
        **changes,
    }


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


def said(bridge: Process, sentence: str) -> bool:
    return bridge.log_path.exists() and sentence in bridge.log_path.read_text()


class TestOnSockets:
    """The whole set, with a bridge beside it."""

    async def member(self, line: Line) -> Person:
        person = await line.sign_up("member")
        async with connected(line.services.nats, "publisher") as nc:
            await line.grant(nc, "workspace:w-bus", person, Role.VIEWER)
        return person

    async def heard(self, client: SocketClient, count: int) -> list[Mapping[str, Any]]:
        frames: list[Mapping[str, Any]] = []
        while len(frames) < count:
            frame = await client.next("event")
            frames += [frame] if frame["event"]["type"] != "member_changed" else []
        return frames

    async def test_entries_reach_the_rooms_of_their_pattern_with_id_and_correlation_id(
        self, line: Line, redis: RedisServer, bridges: Bridges
    ) -> None:
        """Requirement B5, from the bus to the socket."""
        person = await self.member(line)
        entries = [
            entry("e1", "approval.created"),
            entry("e2", "agent.status.changed", data='{"agentId": "g1", "status": "running"}'),
            entry("e3", "ai.run.started", data='{"runId": "r1", "heat": 0.70}'),
            entry("e4", "notification.new", data=f'{{"id": "n1", "userId": "{person.id}", "title": "Hi"}}'),
            entry("e5", "billing.invoice.paid"),
            entry("e6", "approval.deleted", data='{"id": "a1"}'),
        ]
        bridges.start(line.services.nats)
        async with open_socket(line.services.gateways[0].url) as client:
            await client.connect(person.token, ["workspace:w-bus", f"user:{person.id}"])
            redis.add(*entries)
            frames = await self.heard(client, 5)

        assert [frame["rooms"][-1] for frame in frames] == [
            "workspace:w-bus/approval:a1",
            "workspace:w-bus/agent:g1",
            "workspace:w-bus/run:r1",
            f"user:{person.id}/notification:n1",
            "workspace:w-bus/approval:a1",
        ]
        assert [frame["event"]["id"] for frame in frames] == ["e1", "e2", "e3", "e4", "e6"]
        assert [frame["event"]["metadata"]["correlationId"] for frame in frames] == [
            f"req-{frame['event']['id']}" for frame in frames
        ]
        assert frames[0]["event"]["metadata"]["userId"] == "u7"

    async def test_invalid_entries_are_set_aside_with_the_reason_and_later_ones_arrive(
        self, line: Line, redis: RedisServer, bridges: Bridges
    ) -> None:
        person = await self.member(line)
        bridges.start(line.services.nats)
        async with open_socket(line.services.gateways[0].url) as client:
            await client.connect(person.token, ["workspace:w-bus"])
            [first, _, _] = redis.add(
                entry("p1", data="{"), {**entry("p2"), "data": b"\xff"}, entry("p3", correlationId="req-behind")
            )
            [frame] = await self.heard(client, 1)
        await until(lambda: redis.pending() == 0)

        assert frame["event"]["metadata"]["correlationId"] == "req-behind"
        assert [one[b"bridge.reason"] for one in redis.aside()] == [
            b"the field data is not JSON",
            b"the field data is not UTF-8",
        ]
        assert (redis.aside()[0][b"bridge.entry"], redis.aside()[0][b"id"]) == (first, b"p1")


class TestOutages:
    """A broker with its streams, and a bridge whose surroundings end."""

    async def test_bridge_killed_at_any_moment_loses_and_repeats_nothing(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        ids = [f"k{number}" for number in range(COUNT)]
        bridge = bridges.start(stream)
        redis.add(*(entry(id_) for id_ in ids))
        for part in range(1, 4):
            while await stored.count() < part * COUNT // 4:
                await asyncio.sleep(0)
            bridge.kill()
            bridge = bridges.start(stream)
        found = await stored.ids(COUNT)
        await until(lambda: redis.pending() == 0)

        assert found == ids

    async def test_event_stored_but_not_acknowledged_to_redis_is_published_again_and_stored_once(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        """A kill between the two leaves the entry pending, so the test makes it pending again."""
        bridge = bridges.start(stream)
        redis.add(entry("s1"))
        await stored.ids(1)
        await until(lambda: redis.pending() == 0)
        bridge.kill()
        redis.client.xgroup_setid("bus", "beaconfire", "0")
        redis.client.xreadgroup("beaconfire", "bridge", {"bus": ">"})
        bridges.start(stream)
        redis.add(entry("s2"))
        found = await stored.ids(2)
        await until(lambda: redis.pending() == 0)

        assert found == ["s1", "s2"]

    async def test_bridge_outlives_a_killed_redis_and_continues_in_order(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        bridge = bridges.start(stream)
        redis.add(*(entry(f"r{number}") for number in range(COUNT)))
        while await stored.count() < COUNT // 3:
            await asyncio.sleep(0)
        redis.kill()
        await until(lambda: said(bridge, "Redis failed, trying again"))
        await asyncio.to_thread(redis.start)
        redis.add(entry("last"))
        found = await stored.ids(COUNT + 1)
        await until(lambda: redis.pending() == 0)

        assert found == [*(f"r{number}" for number in range(COUNT)), "last"]

    async def test_bridge_outlives_a_frozen_redis_whose_answer_was_lost(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        bridge = bridges.start(stream)
        redis.add(entry("f1"))
        await stored.ids(1)
        redis.process.freeze()
        await until(lambda: said(bridge, "Redis failed, trying again"))
        redis.process.thaw()
        redis.add(entry("f2"))

        assert await stored.ids(2) == ["f1", "f2"]

    async def test_bridge_started_before_redis_and_after_a_killed_broker_publishes_once_both_are_there(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer
    ) -> None:
        redis.add(*(entry(f"b{number}") for number in range(3)))
        redis.kill()
        stream.kill()
        bridge = bridges.start(stream)
        await asyncio.to_thread(stream.start)
        await until(lambda: said(bridge, "Redis failed, trying again"))
        await asyncio.to_thread(redis.start)
        async with connected(stream, "operator") as nc:
            found = await Stored(nc).ids(3)
            await until(lambda: redis.pending() == 0)
            await asyncio.to_thread(redis.kill)
            await asyncio.to_thread(stream.kill)
            await asyncio.to_thread(redis.start)
            redis.add(entry("b3"))
            await asyncio.to_thread(stream.start)
            after = await Stored(nc).ids(4)

        assert (found, after) == (["b0", "b1", "b2"], ["b0", "b1", "b2", "b3"])

    async def test_redis_that_lost_its_group_is_read_from_the_start_and_repeats_are_dropped(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        bridges.start(stream)
        redis.add(entry("g1"))
        await stored.ids(1)
        redis.client.xgroup_destroy("bus", "beaconfire")
        redis.add(entry("g2"))

        assert await stored.ids(2) == ["g1", "g2"]

    async def test_entries_of_a_bridge_that_never_returns_are_taken_over(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        redis.add(entry("c1"))
        redis.client.xgroup_create("bus", "beaconfire", id="0")
        redis.client.xreadgroup("beaconfire", "gone", {"bus": ">"})
        bridges.start(stream, redis_claim_after_s="0.2")
        found = await stored.ids(1)
        await until(lambda: redis.pending() == 0)

        assert found == ["c1"]

    async def test_entry_that_the_bus_removed_while_it_was_pending_does_not_stop_the_bridge(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        redis.add(entry("x1"), entry("x2"))
        redis.client.xgroup_create("bus", "beaconfire", id="0")
        redis.client.xreadgroup("beaconfire", "bridge", {"bus": ">"}, count=1)
        redis.client.xtrim("bus", maxlen=1, approximate=False)
        bridge = bridges.start(stream)
        found = await stored.ids(1)
        await until(lambda: redis.pending() == 0)

        assert found == ["x2"]
        assert said(bridge, "the bus removed an entry before it was published")

    async def test_several_streams_are_read_and_each_has_its_own_entries_aside(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        bridges.start(stream, redis_streams="approvals, agents")
        redis.add(entry("m1"), stream="approvals")
        redis.add(entry("m2", tenantId="a b"), entry("m3"), stream="agents")
        found = await stored.ids(2)
        await until(lambda: redis.pending("agents") == 0)

        assert sorted(found) == ["m1", "m3"]
        assert [len(redis.aside(name)) for name in ("approvals", "agents")] == [0, 1]

    async def test_event_without_permission_waits_until_the_broker_allows_it(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored
    ) -> None:
        stream.permit(publishers=[Publisher("redis-bridge", ("user.*.notification.*",))])
        bridge = bridges.start(stream, "redis-bridge")
        redis.add(entry("w1"))
        await until(lambda: said(bridge, "may not publish, trying again"))
        stream.permit(publishers=[Publisher("redis-bridge", ("workspace.*.approval.*",))])

        assert await stored.ids(1) == ["w1"]
        assert redis.aside() == []

    async def test_event_that_the_broker_refuses_for_good_is_set_aside(
        self, redis: RedisServer, bridges: Bridges, stream: NatsServer, stored: Stored, tmp_path: Path
    ) -> None:
        """A user that may ask for the stream's subjects (`kit`) learns that it does not take this one."""
        rules = tmp_path / "rules.toml"
        rules.write_text('[subjects]\n"a.*" = "unknown.{id}"\n"*" = "workspace.{tenantId}.x.{id}"')
        stream.permit(publishers=[Publisher("redis-bridge", ("unknown.*", "workspace.>"), kit=True)])
        bridges.start(stream, "redis-bridge", bridge_rules=str(rules))
        redis.add(entry("u1", "a.b"), entry("u2"))
        found = await stored.ids(1)

        assert found == ["u2"]
        assert b"does not take unknown.u1" in redis.aside()[0][b"bridge.reason"]


async def test_bridge_stops_at_sigterm_also_while_broker_and_redis_are_away(
    redis: RedisServer, bridges: Bridges, nats_server: NatsServer
) -> None:
    redis.kill()
    nats_server.kill()
    bridge = bridges.start(nats_server)
    await until(lambda: said(bridge, "broker client reports"))
    bridge.terminate()

    assert await asyncio.to_thread(bridge.wait, END_S)
    assert bridge.exit_code == 0


def test_wrong_rules_end_the_bridge_with_a_sentence_without_a_stack_trace(
    bridges: Bridges, nats_server: NatsServer, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[subjects]\n")
    bridge = bridges.start(nats_server, bridge_rules=str(rules))
    missing = bridges.start(nats_server, bridge_rules=str(tmp_path / "none.toml"))

    assert bridge.wait(END_S)
    assert missing.wait(END_S)
    assert (bridge.exit_code, missing.exit_code) == (1, 1)
    assert bridge.last_lines[0].startswith(f"{rules}: no rules: ")
    assert [len(one.last_lines) for one in (bridge, missing)] == [1, 1]

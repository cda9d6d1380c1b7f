"""One broker becomes three, and one of three is replaced, as docs/howto/operate.md says, under clients and workers."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from beaconfire.local_services import Plan, ServiceProcess
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from tests.cluster.brokers import SIZE, Brokers
from tests.cluster.everything import repeating
from tests.docs.pasted import Shell, commands
from tests.e2e.conftest import running_line
from tests.e2e.examined import database
from tests.e2e.staged import write_row
from tests.e2e.story import story

REPLACE = commands("docs/howto/operate.md", "Replace a broker")
LOOK, SET_UP = commands("docs/howto/operate.md", "Grow from one broker to three")
FRAGMENT = Path(__file__).parents[2] / "examples/logistics/logistics.yaml"
CHEAP_PASSWORDS = {"BEACONFIRE_ARGON2_TIME_COST": "1", "BEACONFIRE_ARGON2_MEMORY_KIB": "64"}
WORKERS = ("auth-parents", "rules-engine", "scheduler")
pytestmark = pytest.mark.timeout(240)

PATIENCE_S = 120
"""For a command of the page, in a thread, which no timeout of pytest ends."""


async def test_one_broker_becomes_three_and_one_of_three_is_replaced_with_an_empty_volume(tmp_path: Path) -> None:
    """Clients load their state once, for the new stream. They notice nothing of the replacement of the leader."""
    shell = Shell(tmp_path / "operator")
    wrong: dict[str, str] = {}
    (tmp_path / "operator" / "logistics.yaml").write_bytes(FRAGMENT.read_bytes())
    brokers = Brokers(tmp_path)
    plan = Plan(tmp_path / "one", gateways=2, passwords=brokers.passwords, environment={"auth": CHEAP_PASSWORDS})
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(running_line(plan))
        services = line.services
        one = await stack.enter_async_context(story(line))
        staying, leaving = one.follow("staying"), one.follow("leaving")
        await asyncio.gather(staying.connected(1), leaving.connected(1))
        await one.change(2)
        await one.heard_by(staying, leaving)
        wrong |= await one.wrong(staying, leaving)
        cursor = leaving.cursor
        await one.leave(leaving)

        services.publisher.stop()
        waiting = Envelope(
            SettlementUpdated(campaign_id=one.campaign, settlement_id="s1", operation="update", changed_fields=("x",)),
            Metadata(source="api"),
        )
        await write_row(database(services, "publisher"), waiting, age=timedelta())
        said = await asyncio.to_thread(until_idle, shell, services.nats.environment("operator"))
        for service in (services.auth, *services.workers, *services.gateways):
            service.stop()
        services.nats.stop()
        await stack.enter_async_context(brokers.empty())
        set_up = await asyncio.to_thread(shell.succeeds, SET_UP, **brokers.environment("setup"))
        for service in services.services:
            service.process.environment["BEACONFIRE_NATS_URL"] = brokers.url
        await start(services.services)
        one.broker = brokers
        leaving = one.follow("returning", since=cursor or "")
        await one.told(staying, leaving)
        await one.heard_by(staying, leaving)
        wrong |= await one.wrong(staying, leaving)
        sent = await one.times_in_stream(waiting.id)
        level = await one.level()

        connects = staying.connects, leaving.connects
        async with repeating(one.publish):
            await asyncio.to_thread(brokers.replace, await brokers.leader())
            replaced = await asyncio.to_thread(until_current, shell, brokers.environment("operator"))
        await one.heard_by(staying, leaving)
        wrong |= await one.wrong(staying, leaving)

    assert [line for line in said.splitlines() if line.split()[1:2] and line.split()[1] in WORKERS] != []
    assert "logistics" in set_up
    assert (level, sent) == (2, 1)
    assert wrong == {}
    assert (staying.reloads, leaving.reloads) == ([], [])
    assert (staying.connects, leaving.connects) == connects
    assert replaced.count("current in EVENTS") >= SIZE - 1


async def start(services: Sequence[ServiceProcess]) -> None:
    for one in services:
        one.start(wait=False)
    for one in services:
        await asyncio.to_thread(one.wait_ready)


def until_idle(shell: Shell, environment: dict[str, str]) -> str:
    """Run the page's command until each worker has handled everything."""
    return until(
        lambda lines: len(lines) == len(WORKERS) and all("0 messages wait" in line for line in lines),
        lambda: shell.run(LOOK, **environment)[1],
        [f" {name} " for name in WORKERS],
    )


def until_current(shell: Shell, environment: dict[str, str]) -> str:
    """Run the page's command until it calls every replica current. It does not list a leader of all streams."""
    return until(
        lambda lines: len(lines) >= SIZE - 1 and all("current in" in line for line in lines),
        lambda: shell.run(*REPLACE, **environment)[1],
        [" replica n"],
    )


def until(are_right: Callable[[list[str]], bool], run: Callable[[], str], words: Sequence[str]) -> str:
    """Run a command until the lines with any of these words are right. Returns what it printed."""
    deadline, said = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < deadline:
        said = run()
        if are_right([line for line in said.splitlines() if any(word in line for word in words)]):
            return said
    raise AssertionError(said)

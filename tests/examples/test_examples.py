"""examples/: each program is run as its page says, and its event reaches a socket."""

import asyncio
import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.roles import Role
from tests.client import SocketClient, answering, open_socket
from tests.conftest import connected
from tests.e2e.conftest import Line

EXAMPLES = Path(__file__).parents[2] / "examples"
BUILD_S = 300  # Go's standard library is compiled on a machine's first build
RUN_S = 60
BUILD = {"go": ["go", "build", "-o", "publish", "."], "node": ["npm", "ci", "--no-audit", "--no-fund"]}
RUN = {"go": ["./publish"], "node": ["node", "publish.js"]}

pytestmark = pytest.mark.timeout(2 * BUILD_S)


@dataclass(frozen=True)
class Program:
    """A publisher in another language, ready to run."""

    command: Sequence[str]
    folder: Path
    source: str

    async def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(_run, [*self.command, *arguments], self.folder, RUN_S, environment)


def _run(
    command: Sequence[str], folder: Path, timeout_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, **(environment or {})}
    return subprocess.run(command, cwd=folder, env=whole, capture_output=True, text=True, timeout=timeout_s)


def _build(command: Sequence[str], folder: Path) -> None:
    result = _run(command, folder, BUILD_S)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(name="program", scope="module", params=list(BUILD))
def _program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The example, built in a copy of its folder by the command of its page."""
    language: str = request.param
    folder = tmp_path_factory.mktemp("examples") / language
    shutil.copytree(EXAMPLES / language, folder, ignore=shutil.ignore_patterns("node_modules", "publish"))
    # One test process after the other: the second finds what the first compiled or fetched.
    with (EXAMPLES / language / "README.md").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build(BUILD[language], folder)
    return Program(RUN[language], folder, f"example-{language}")


def _as(line: Line, user: str) -> dict[str, str]:
    return line.services.nats.environment(user)


async def _next_settlement(client: SocketClient) -> dict[str, Any]:
    while (frame := await client.next("event"))["event"]["type"] != "settlement_updated":
        pass
    return frame


async def test_examples_event_reaches_a_socket_once_and_a_second_run_gets_the_same_offset(
    program: Program, line: Line
) -> None:
    person = await line.sign_up("member")
    campaign = f"c-{program.source}"
    async with connected(line.services.nats, "publisher") as nc:
        await line.grant(nc, f"campaign:{campaign}", person, Role.VIEWER)
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(person.token, [f"campaign:{campaign}"])
        async with answering(client):
            first = await program.run(campaign, "s1", "level", EVENT_ID=f"{campaign}-1", **_as(line, "publisher"))
            again = await program.run(campaign, "s1", "level", EVENT_ID=f"{campaign}-1", **_as(line, "publisher"))
            after = await program.run(campaign, "s1", "level", EVENT_ID=f"{campaign}-2", **_as(line, "publisher"))
        # The membership that was just granted may be heard as well.
        frames = [await _next_settlement(client) for _ in range(2)]

    assert [result.returncode for result in (first, again, after)] == [0, 0, 0], first.stderr + again.stderr
    assert first.stdout == again.stdout == f"published, offset {frames[0]['offset']}\n"
    assert [frame["event"]["id"] for frame in frames] == [f"{campaign}-1", f"{campaign}-2"]
    event = frames[0]["event"]
    assert (event["type"], event["metadata"]["source"]) == ("settlement_updated", program.source)
    assert event["payload"] == {
        "campaignId": campaign,
        "settlementId": "s1",
        "operation": "update",
        "changedFields": ["level"],
    }


async def test_example_exits_with_1_and_a_sentence_without_a_stack_trace_when_refused(
    program: Program, line: Line
) -> None:
    not_allowed = await program.run("c1", "s1", "level", **_as(line, "operator"))
    wrong = await program.run("c1", "s1", "level", **{**_as(line, "publisher"), "BEACONFIRE_NATS_PASSWORD": "wrong"})
    too_few = await program.run("c1")
    no_id = await program.run("c.1", "s1", "level")

    assert [result.returncode for result in (not_allowed, wrong, too_few, no_id)] == [1, 1, 1, 1]
    assert not_allowed.stderr.startswith("publish: the broker refused the event: ")
    assert "permissions violation" in not_allowed.stderr.lower()
    assert wrong.stderr.startswith(f'publish: no connection to {line.services.nats.url} as "publisher": ')
    assert too_few.stderr.startswith("publish: usage: ")
    assert no_id.stderr.startswith('publish: "c.1" is no id: ')
    assert all(result.stderr.count("\n") == 1 for result in (not_allowed, wrong, too_few, no_id))


async def test_example_gives_up_in_time_and_says_whether_stream_or_broker_is_missing(
    program: Program, nats_server: NatsServer
) -> None:
    """The program prints no password."""
    address = nats_server.url.replace("://", "://publisher:secret@")
    environment = {**nats_server.environment("publisher"), "GIVE_UP_AFTER_S": "3"}
    no_stream = await program.run("c1", "s1", "level", **environment)
    nats_server.kill()
    no_broker = await program.run("c1", "s1", "level", **{**environment, "BEACONFIRE_NATS_URL": address})

    assert [result.returncode for result in (no_stream, no_broker)] == [1, 1]
    assert no_stream.stderr == (
        "publish: no stream takes campaign.c1.settlement.s1: has `beaconfire setup` been run on this broker?\n"
    )
    assert no_broker.stderr.startswith(f"publish: no broker answers at {address.partition('@')[2]}"), no_broker.stderr
    assert no_broker.stderr.count("\n") == 1


async def test_example_started_before_the_broker_publishes_once_it_is_there(
    program: Program, stream: NatsServer
) -> None:
    stream.kill()
    running = asyncio.create_task(program.run("c1", "s1", "level", **stream.environment("publisher")))
    done, _ = await asyncio.wait([running], timeout=0.2)
    assert not done
    await asyncio.to_thread(stream.start)
    result = await running

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("published, offset ")


async def test_example_repeats_its_event_until_a_frozen_broker_acknowledges_it(program: Program, line: Line) -> None:
    nats = line.services.nats
    nats.freeze()
    try:
        running = asyncio.create_task(program.run("c1", "s1", "level", **_as(line, "publisher")))
        done, _ = await asyncio.wait([running], timeout=0.2)
        assert not done
    finally:
        nats.thaw()
    result = await running

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("published, offset ")

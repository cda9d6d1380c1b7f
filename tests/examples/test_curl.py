"""examples/curl against a real publisher, with a token that a real auth issued."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from beaconfire.nats_server import free_port
from beaconfire.operating import AuthOperator
from tests.client import answering, open_socket
from tests.e2e.conftest import Line

SCRIPT = Path(__file__).parents[2] / "examples" / "curl" / "publish.sh"
RUN_S = 120  # the publisher restarts meanwhile, perhaps on a busy machine

pytestmark = pytest.mark.timeout(2 * RUN_S)


class Script:
    """The script, with the environment of its page."""

    def __init__(self, line: Line, token: str) -> None:
        self._environment = {"BEACONFIRE_PUBLISHER_URL": line.services.publisher_url, "BEACONFIRE_SERVICE_TOKEN": token}

    async def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [str(SCRIPT), *arguments],
            env={**os.environ, **self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )


def _issue(line: Line, *patterns: str) -> str:
    operator = AuthOperator(line.services.auth.ops_url, line.services.operator_token)
    return str(operator.post("service-tokens", {"service": "Example", "publish": patterns})["token"])


@pytest.fixture(name="script")
async def _script(line: Line) -> Script:
    return Script(line, await asyncio.to_thread(_issue, line, "campaign.*.settlement.*"))


async def test_curl_examples_event_reaches_a_socket_once_even_if_it_runs_twice(script: Script, line: Line) -> None:
    owner = await line.sign_up("owner")
    campaign = await line.campaign(owner)
    room = f"campaign:{campaign}"
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(owner.token, [room], types={room: ["settlement_updated"]})
        async with answering(client):
            runs = [
                await script.run(campaign, "s1", "level", "variables.food", IDEMPOTENCY_KEY=f"{campaign}-{key}")
                for key in "112"
            ]
        first, second = await client.events(2)

    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 3
    for run, frame in zip(runs, (first, first, second), strict=True):
        assert run.stdout == "published, offset pending\n" or run.stdout.endswith(f":{frame['offset']}\n")
    assert first["event"]["id"] != second["event"]["id"]
    assert first["event"]["metadata"]["source"] == "example"
    assert first["event"]["payload"] == {
        "campaignId": campaign,
        "settlementId": "s1",
        "operation": "update",
        "changedFields": ["level", "variables.food"],
    }


async def test_curl_example_exits_with_1_and_a_sentence_without_the_token_when_refused(
    script: Script, line: Line
) -> None:
    elsewhere = await asyncio.to_thread(_issue, line, "campaign.another.>")
    nobody = f"http://127.0.0.1:{free_port()}"
    cases = {
        "the publisher refused the event: 401 ": await script.run(
            "c1", "s1", "level", BEACONFIRE_SERVICE_TOKEN="nonsense"
        ),
        "the publisher refused the event: 403 ": await script.run(
            "c1", "s1", "level", BEACONFIRE_SERVICE_TOKEN=elsewhere
        ),
        "the publisher refused the event: 400 payload.": await script.run("c.1", "s1", "level"),
        '"le"vel" has letters, digits, ': await script.run("c1", "s1", 'le"vel'),
        f"no answer from {nobody} within 1 s": await script.run(
            "c1", "s1", "level", BEACONFIRE_PUBLISHER_URL=nobody, GIVE_UP_AFTER_S="1"
        ),
        "usage: publish.sh ": await script.run("c1"),
        "BEACONFIRE_SERVICE_TOKEN has letters, ": await script.run("c1", "s1", "level", BEACONFIRE_SERVICE_TOKEN=""),
    }

    for beginning, run in cases.items():
        assert run.returncode == 1, beginning
        assert run.stdout == ""
        assert run.stderr.startswith(f"publish: {beginning}"), run.stderr
        assert run.stderr.count("\n") == 1, run.stderr
        assert elsewhere not in run.stderr


async def test_curl_example_waits_for_a_publisher_that_is_away(script: Script, line: Line) -> None:
    publisher = line.services.publisher
    await asyncio.to_thread(publisher.stop)
    running = asyncio.create_task(script.run("c1", "s1", "level", GIVE_UP_AFTER_S="100"))
    try:
        done, _ = await asyncio.wait([running], timeout=0.2)
        assert not done
    finally:
        await asyncio.to_thread(publisher.start)
    run = await running

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("published, offset ")

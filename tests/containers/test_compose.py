"""docker-compose.yml in containers: brought up as documented, used over TLS, and damaged."""

import asyncio
import json
from typing import Any

import pytest
import yaml

from tests.architecture.sources import ROOT
from tests.containers.deployment import Deployment
from tests.containers.story import Story

_ALL: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SERVICES = {name: one for name, one in _ALL.items() if "profiles" not in one}
JOBS = {name for name, one in SERVICES.items() if one["restart"] == "on-failure"}
LASTING = sorted(SERVICES.keys() - JOBS)
# The first test of a module builds and starts everything.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(name="story", scope="module")
def _story(deployment: Deployment) -> Story:
    story = Story(deployment.url, deployment.certificate)
    asyncio.run(story.begin())
    return story


def test_documented_commands_bring_every_container_up_healthy(deployment: Deployment) -> None:
    """Jobs have ended without an error."""
    lines = deployment.compose("ps", "--all", "--format", "json").splitlines()
    states = {one["Service"]: one for one in map(json.loads, lines)}

    assert states.keys() == SERVICES.keys()
    assert {name for name, one in states.items() if one["Health"] == "healthy"} == set(LASTING)
    assert {name: one["ExitCode"] for name, one in states.items() if one["State"] == "exited"} == dict.fromkeys(JOBS, 0)


async def test_change_of_a_user_who_just_signed_up_reaches_a_socket_over_tls(story: Story) -> None:
    event = await story.hear_change(1241)

    assert event["type"] == "settlement_updated"
    assert event["payload"]["settlementId"] == story.settlement
    assert event["payload"]["changedFields"] == ["population"]
    assert await story.population(await story.token()) == 1241


@pytest.mark.parametrize("name", LASTING)
async def test_no_event_is_lost_repeated_or_reordered_while_a_container_crashes_and_restarts(
    name: str, deployment: Deployment, story: Story
) -> None:
    """After a crash, the engine starts the container again."""
    token = await story.token()
    async with story.followed(token):
        await asyncio.to_thread(deployment.crash, name)
        await asyncio.to_thread(deployment.restart, name)


async def test_nothing_is_lost_when_everything_is_taken_down_and_brought_up_again(
    deployment: Deployment, story: Story
) -> None:
    """Users, the campaign, the stream and the cursors of clients are as before."""
    token = await story.token()
    async with story.client(token).running() as client:
        await story.publish(3, token)
        await client.seen(story.sent[-1])
    await story.publish(2, token)
    await story.change(1242, token)
    before = client.cursor

    await asyncio.to_thread(deployment.compose, "down")
    await asyncio.to_thread(deployment.compose, "up", "--wait")
    token = await story.token()
    async with story.client(token, cursor=before).running() as again:
        await story.publish(1, token)
        await again.seen(story.sent[-1])

    assert [one for one in again.ids if one in story.sent] == story.sent[-3:]
    assert again.resyncs == []
    assert await story.population(token) == 1242

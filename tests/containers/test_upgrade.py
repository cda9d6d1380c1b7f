"""The containers of the version before are upgraded in place, as documented, or run next to those of this version."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.deployment import IMAGES_BEFORE, Deployment, another, documented
from tests.containers.story import Story

PARTS = {
    "auth": ["auth", "migrate-auth"],
    "publisher": ["publisher", "rules-engine", "scheduler", "migrate-publisher"],
    "gateway": ["gateway-1", "gateway-2"],
}
"""The containers of a service that is deployed by itself. Its tables are migrated by its own version."""
# The first test builds the images of both versions.
pytestmark = pytest.mark.timeout(900)


async def test_upgrade_in_place_loses_no_account_change_or_event(built: Deployment, before: Deployment) -> None:
    """Clients that follow a campaign meanwhile have every event once and in order."""
    try:
        await asyncio.to_thread(before.bring_up, build=False)
        old = before.images()["gateway-1"]
        story = Story(before.url, before.certificate)
        await story.begin()
        token = await story.token()
        await story.change(1241, token)
        async with story.followed(token):
            before.replace_tree(built)
            for command in documented("Upgrading"):
                await asyncio.to_thread(before.shell, command)

        assert before.images()["gateway-1"] != old
        assert await story.population(await story.token()) == 1241
    finally:
        await asyncio.to_thread(before.remove)


@pytest.fixture(name="unstarted")
def _unstarted(tmp_path: Path) -> Iterator[Deployment]:
    with another(tmp_path) as one:
        yield one


@pytest.mark.usefixtures("built", "before")
@pytest.mark.parametrize("part", PARTS)
async def test_service_from_the_image_of_the_version_before_works_next_to_the_others(
    part: str, unstarted: Deployment
) -> None:
    """A user signs up and changes something over TLS. Sockets of clients get the event, and all others in order."""
    unstarted.run_from(IMAGES_BEFORE, PARTS[part])
    await asyncio.to_thread(unstarted.bring_up, build=False)
    story = Story(unstarted.url, unstarted.certificate)
    await story.begin()
    event = await story.hear_change(1241)
    async with story.followed(await story.token()):
        await story.change(1242, await story.token())

    assert event["payload"]["changedFields"] == ["population"]
    running = unstarted.images()
    assert {name for name, image in running.items() if image.startswith(IMAGES_BEFORE)} == set(PARTS[part])

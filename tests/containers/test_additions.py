"""What the documentation adds to docker-compose.yml, together: the admin page, traces, and secrets in files."""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from beaconfire.admin.operators import API
from tests.architecture.sources import ROOT
from tests.client import trusting
from tests.containers import collector, engine
from tests.containers.deployment import IMAGES, Deployment, another
from tests.containers.story import Story
from tests.docs.tree import blocks

ADMIN_PAGE = "docs/howto/use_the_admin_page.md"
SECRETS_PAGE = "docs/howto/secrets.md"
TRACES_PAGE = "docs/howto/trace_a_change.md"
OVERRIDE = "docker-compose.override.yml"
COLLECTOR = {
    "image": f"{IMAGES}/tools",
    "command": ["python", "/collector.py"],
    "volumes": [f"{collector.__file__}:/collector.py:ro"],
    "networks": {"default": {"aliases": ["collector.example"]}},
}
# The first test builds the images.
pytestmark = pytest.mark.timeout(600)


def override(page: str) -> str:
    """The compose file of a page."""
    (found,) = (one.text for one in blocks(page) if one.title == OVERRIDE)
    return found


def commands(page: str, start: str) -> str:
    """The block of commands of a page that begins like this."""
    (found,) = (one.text for one in blocks(page) if one.text.startswith(start))
    return found


def serve_admin_page_at_the_proxy(caddyfile: Path) -> None:
    """Put the lines of the page where it says."""
    (lines,) = re.findall(r"```\n(redir .*?)```", (ROOT / ADMIN_PAGE).read_text(), re.DOTALL)
    text = caddyfile.read_text()
    assert text.count("\t@auth path") == 1
    caddyfile.write_text(text.replace("\t@auth path", f"{lines}\n\t@auth path"))


@pytest.fixture(name="extended", scope="module")
def _extended(built: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with another(tmp_path_factory.mktemp("extended")) as one:
        one.shell(commands(SECRETS_PAGE, "install -d"))
        one.add("secrets.yml", override(SECRETS_PAGE))
        one.add("traces.yml", override(TRACES_PAGE))
        one.add("collector.yml", yaml.safe_dump({"services": {"collector": COLLECTOR}}))
        one.bring_up(build=False)
        yield one


@pytest.fixture(name="story", scope="module")
def _story(extended: Deployment) -> Story:
    story = Story(extended.url, extended.certificate)
    asyncio.run(story.begin())
    return story


class Operator:
    """Calls of the admin page behind the proxy, with a token."""

    def __init__(self, deployment: Deployment, token: str) -> None:
        self._deployment = deployment
        self._headers = {"Authorization": f"Bearer {token}", "Origin": deployment.url}

    async def call(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Return the status and the content of an answer."""
        async with trusting(self._deployment.certificate) as http:
            url = f"{self._deployment.url}/admin{API}{path}"
            async with http.request(method, url, headers=self._headers) as answer:
                return answer.status, await answer.json() if answer.content_type == "application/json" else None


async def test_admin_page_shows_and_ends_a_session_behind_the_proxy_and_a_reader_only_looks(
    extended: Deployment, story: Story
) -> None:
    """The commands and the lines for the proxy are the documented ones."""
    serve_admin_page_at_the_proxy(extended.folder / "deploy/proxy/Caddyfile")
    extended.run_from(f"{IMAGES}-admin", ["proxy"])
    start = next(line for line in (ROOT / ADMIN_PAGE).read_text().splitlines() if "--profile admin up" in line)
    await asyncio.to_thread(extended.shell, start)
    await asyncio.to_thread(extended.shell, commands(ADMIN_PAGE, "docker compose up --build"))
    admin = await asyncio.to_thread(extended.container, "admin")
    await asyncio.to_thread(engine.wait_until, lambda: engine.is_healthy(admin), "the admin page is healthy")
    actor, reader, stranger = (
        Operator(extended, token)
        for token in (
            extended.secrets["BEACONFIRE_OPERATOR_TOKEN"],
            extended.secrets["BEACONFIRE_OPERATOR_READ_TOKEN"],
            extended.secrets["BEACONFIRE_GRANT_TOKENS"],
        )
    )
    async with story.socket() as client:
        await client.connect(await story.token(), [story.room])
        _, found = await reader.call(f"sessions?user={story.email}")
        (session,) = found["sessions"]
        act = f"sessions/{session['sessionId']}/disconnect"
        refused, _ = await reader.call(act, "POST")
        done, _ = await actor.call(act, "POST")
        await client.closed()
    _, overview = await reader.call("overview")
    outside = [(await stranger.call("me"))[0], (await actor.call("me"))[0]]

    assert [one["room"] for one in session["rooms"]] == [story.room]
    assert (refused, done, outside) == (403, 204, [401, 200])
    assert (overview["problems"], len(overview["gateways"])) == ([], 2)
    assert {one["name"] for one in overview["services"]} == {"auth", "publisher"}


async def test_change_is_one_trace_through_the_images_of_all_services(extended: Deployment, story: Story) -> None:
    """The collector runs at the address of the page."""
    await story.hear_change(1241)

    def spans() -> dict[str, set[tuple[str, str]]]:
        found: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for line in extended.compose("logs", "--no-log-prefix", "collector").splitlines():
            service, trace, name = line.split(" ", 2)
            found[trace].add((service.removeprefix("beaconfire-"), name.partition(" ")[0]))
        return found

    change = {("publisher", "PATCH"), ("publisher", "publish"), ("gateway", "deliver"), ("rules-engine", "handle")}
    await asyncio.to_thread(
        engine.wait_until, lambda: any(change <= one for one in spans().values()), "the trace of a change has arrived"
    )
    await asyncio.to_thread(
        engine.wait_until, lambda: ("auth", "POST") in set().union(*spans().values()), "a trace of auth has arrived"
    )


async def test_publisher_reads_its_changed_broker_password_from_the_documented_file_without_a_restart(
    extended: Deployment, story: Story
) -> None:
    """The password is in no variable of the container. Clients that follow a campaign meanwhile miss nothing."""
    publisher = await asyncio.to_thread(extended.container, "publisher")
    (described,) = json.loads(await asyncio.to_thread(engine.docker, "inspect", publisher))
    old = extended.secrets["BEACONFIRE_PUBLISHER_PASSWORD"]
    token = await story.token()
    async with story.followed(token):
        await asyncio.to_thread(extended.shell, commands(SECRETS_PAGE, "password="))

    (after,) = json.loads(await asyncio.to_thread(engine.docker, "inspect", publisher))
    assert old not in json.dumps(described["Config"]["Env"])
    assert extended.secrets["BEACONFIRE_PUBLISHER_PASSWORD"] != old
    assert after["State"]["StartedAt"] == described["State"]["StartedAt"]


def test_compose_reads_the_documented_file_beside_its_own_without_being_told(extended: Deployment) -> None:
    (extended.folder / OVERRIDE).write_text(override(SECRETS_PAGE))
    read = json.loads(extended.shell("unset COMPOSE_FILE; docker compose config --format json"))
    environment = read["services"]["publisher"]["environment"]

    assert "BEACONFIRE_NATS_PASSWORD" not in environment
    assert environment["BEACONFIRE_NATS_PASSWORD_FILE"] == "/run/secrets/nats_password"

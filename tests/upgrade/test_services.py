"""Each service works in the version before, next to the others in this one. All run from their own wheels.

Two gateways run all the time, one of each version. Auth and the publisher are replaced while clients follow a campaign.
Both orders together show every combination of versions.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.local_services import Plan, ServiceProcess, Services
from tests.client import SocketClient, open_socket
from tests.e2e.conftest import Line
from tests.packaging.environments import Environment, build_wheels
from tests.people import Person
from tests.polling import PollClient
from tests.upgrade import release

PARTS = ("auth", "publisher", "gateway", "client")
TYPE = "settlement_updated"
STEP_S = 30.0
FULL_S = 180


class Version:
    """The parts of one version, each installed from its wheel into an environment of its own."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self._parts = {part: Environment(folder / part, f"beaconfire-{part}", wheels) for part in PARTS}

    def run(self, service: ServiceProcess, part: str) -> None:
        """Let a service be of this version from its next start on."""
        service.process.command = [self._parts[part].program(f"beaconfire-{part}")]

    @property
    def python(self) -> str:
        """The Python that has the client."""
        return self._parts["client"].program("python")


@pytest.fixture(name="before", scope="module")
def _before(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return Version(tmp_path_factory.mktemp("before"), release.WHEELS)


@pytest.fixture(name="now", scope="module")
def _now(tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("now")
    return Version(folder, build_wheels(folder / "wheels"))


@pytest.fixture(name="mixed")
def _mixed(tmp_path: Path, before: Version, now: Version) -> Iterator[Services]:
    """The first gateway is of this version, and everything else of the version before."""
    services = Services(Plan(tmp_path / "services", gateways=2))
    for service in (services.auth, services.publisher):
        before.run(service, service.name)
    now.run(services.gateways[0], "gateway")
    before.run(services.gateways[1], "gateway")
    services.workers.clear()
    try:
        services.start()
        yield services
    finally:
        services.kill()


class Follower:
    """The Python client of a version, as a program that prints what happens in a campaign."""

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output
        self._lines: list[dict[str, Any]] = []

    @property
    def settlements(self) -> list[str]:
        """The ids of the settlements whose events it printed, in order."""
        return [line["payload"]["settlementId"] for line in self._lines]

    async def read(self) -> None:
        """Read the next event."""
        self._lines.append(json.loads(await self._output.readline()))

    async def read_to(self, settlement: str) -> None:
        """Read up to the event of a settlement."""
        async with asyncio.timeout(STEP_S):
            while settlement not in self.settlements:
                await self.read()


@asynccontextmanager
async def following(version: Version, url: str, campaign: str, token: str) -> AsyncIterator[Follower]:
    """Run the Python client of a version at a gateway."""
    process = await asyncio.create_subprocess_exec(
        *(version.python, "-I", "-m", "beaconfire_client", "tail", url, f"campaign:{campaign}", "--types", TYPE),
        env={"BEACONFIRE_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield Follower(process.stdout)
    finally:
        process.kill()
        await process.wait()


class Story:
    """What users do with a campaign, at both gateways. `made` are its settlements, in order."""

    def __init__(self, line: Line, owner: Person, campaign: str) -> None:
        self._line = line
        self._owner = owner
        self.campaign = campaign
        self._room = f"campaign:{campaign}"
        self.made: list[str] = []

    async def make(self) -> str:
        """Make a settlement. Returns its id."""
        self.made.append(await self._line.settlement(self._owner, self.campaign))
        return self.made[-1]

    async def go_on(self) -> None:
        """Check all that parts of different versions do together."""
        viewer = await self._line.sign_up("viewer")
        await self._line.add_member(self._owner, self.campaign, viewer, "viewer")
        first, second = (gateway.url for gateway in self._line.services.gateways)
        for here, there in ((first, second), (second, first)):
            await self._move(viewer, here, there)
            await self._poll_over_socketio(viewer, here, there)
        await self._poll(viewer, [first, second])
        await self._see_one_another(viewer, first, second)

    async def _move(self, viewer: Person, here: str, there: str) -> None:
        """A client hears an event at one gateway. At the other one it gets the same, from its cursor on."""
        async with open_socket(here) as one, open_socket(there) as other:
            rooms, types = [self._room], {self._room: [TYPE]}
            cursor = (await one.connect(viewer.token, rooms, types=types))["cursor"]
            made = await self.make()
            heard = await one.next("event")
            await other.connect(viewer.token, rooms, types=types, cursor=cursor)

            assert heard["event"]["payload"]["settlementId"] == made
            assert await other.next("event") == heard

    async def _poll(self, viewer: Person, urls: Sequence[str]) -> None:
        """A client that polls the gateways in turn has every event."""
        async with aiohttp.ClientSession() as http:
            client = PollClient(http, urls, viewer.token, [self._room])
            await client.poll(waitS=0, types=[TYPE])
            made = [await self.make(), await self.make()]
            await client.poll_for(2, types=[TYPE])

            assert client.ids == made

    async def _poll_over_socketio(self, viewer: Person, owner: str, other: str) -> None:
        """The gateway of a Socket.IO session answers requests that reach the other gateway."""
        async with aiohttp.ClientSession() as http:
            query = "/socket.io/?EIO=4&transport=polling"
            async with http.get(owner + query) as answer:
                query += f"&sid={json.loads((await answer.text())[1:])['sid']}"
            await self._emit(http, other + query, "40" + json.dumps({"token": viewer.token}))
            await self._packet(http, other + query, "40")
            await self._emit(http, other + query, "421" + json.dumps(["subscribe_campaign", self.campaign]))
            joined = await self._packet(http, other + query, "431")
            made = await self.make()

            assert json.loads(joined)[0]["success"]
            assert made in await self._packet(http, other + query, f'42["{TYPE}"')

    async def _emit(self, http: aiohttp.ClientSession, url: str, packet: str) -> None:
        async with http.post(url, data=packet, headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 200, await answer.text()

    async def _packet(self, http: aiohttp.ClientSession, url: str, start: str) -> str:
        """Poll until a packet comes that begins like this. Returns the rest of it."""
        async with asyncio.timeout(STEP_S):
            while True:
                async with http.get(url) as answer:
                    assert answer.status == 200, await answer.text()
                    packets = (await answer.text()).split("\x1e")
                for packet in packets:
                    if packet.startswith(start):
                        return packet.removeprefix(start)

    async def _see_one_another(self, viewer: Person, first: str, second: str) -> None:
        """Users at both gateways see each other, and each gateway takes a removed member out of the room."""
        async with open_socket(first) as one, open_socket(second) as other, open_socket(first) as third:
            await one.connect(self._owner.token, [self._room], presence=True)
            for client in (other, third):
                await client.connect(viewer.token, [self._room], presence=True)
            await self._sees(one, viewer)
            await self._sees(other, self._owner)
            path = f"/auth/roots/{self._room}/members/{viewer.id}"
            await self._line.auth("DELETE", path, token=self._owner.token)
            for client in (other, third):
                assert (await client.next("room.left"))["reason"] == "membership_removed"

    async def _sees(self, client: SocketClient, person: Person) -> None:
        """Wait until a client knows that a user is in the room."""
        users = client.ack["rooms"][self._room]["presence"]["users"]
        while person.id not in [one["userId"] for one in users]:
            change = await client.next("presence")
            users = change.get("users") or change["joined"]


@pytest.mark.timeout(FULL_S)
@pytest.mark.parametrize("order", [("auth", "publisher"), ("publisher", "auth")], ids=" then ".join)
async def test_services_of_both_versions_work_together_in_every_combination(
    order: Sequence[str], mixed: Services, before: Version, now: Version
) -> None:
    """Clients of both versions follow all of it, the older one at the newer gateway. They have every event once."""
    async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
        line = Line(mixed, http)
        owner = await line.sign_up("owner")
        story = Story(line, owner, await line.campaign(owner))
        followers = [
            await stack.enter_async_context(following(version, gateway.url, story.campaign, owner.token))
            for version, gateway in zip((before, now), mixed.gateways, strict=True)
        ]
        for follower in followers:
            await begun(follower, story)
        await story.go_on()
        for name in order:
            await asyncio.to_thread(replace, getattr(mixed, name), now)
            await story.go_on()
        for follower in followers:
            await follower.read_to(story.made[-1])

    for follower in followers:
        assert follower.settlements == story.made[-len(follower.settlements) :]


async def begun(follower: Follower, story: Story) -> None:
    """Make settlements until a client has printed one."""
    first = asyncio.create_task(follower.read())
    async with asyncio.timeout(STEP_S):
        while not first.done():
            await story.make()
    await first


def replace(service: ServiceProcess, version: Version) -> None:
    """Stop a service, and start it in another version on its data."""
    service.stop()
    version.run(service, service.name)
    service.start()

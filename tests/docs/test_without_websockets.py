"""docs/howto/without_websockets.md: its commands are typed into a shell, and its script runs in a browser."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser

from beaconfire.data_folder import DataFolder
from beaconfire.nats_server import NatsServer
from tests.browser.conftest import _chromium  # noqa: F401  (a fixture)
from tests.docs.tree import ROOT, RUN_S, blocks
from tests.fakes import FakeAuth
from tests.gateway.conftest import _auth, running_gateway, settlement  # noqa: F401  (a fixture)
from tests.tools.terminal import free_ports, terminal

PAGE = "docs/howto/without_websockets.md"
SHELL = [block.text for block in blocks(PAGE) if block.language == "sh"]
WAIT_S = 30.0


class Shell:
    """A shell that a reader types into. `shown` is everything that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.shown = ""

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    async def shows(self, *texts: str) -> None:
        """Wait until each of these texts was printed since the last call."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(WAIT_S):
                while not all(text in self.shown for text in texts):
                    self.shown += (await self._process.stdout.read(65_536)).decode()
        except TimeoutError:
            pytest.fail(f"{texts} is not in:\n{self.shown}")
        self.shown = ""


@asynccontextmanager
async def shell(folder: Path) -> AsyncIterator[Shell]:
    process = await asyncio.create_subprocess_exec(
        "bash",
        cwd=folder,
        env=os.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        reader = Shell(process)
        reader.type("set -m")  # as in a terminal: a job ends with all of its processes
        yield reader
    finally:
        assert process.stdin is not None
        process.stdin.write(b"for job in $(jobs -p); do kill -- -$job; done; exit\n")
        async with asyncio.timeout(WAIT_S):
            await process.wait()


async def contains(file: Path, text: str, *, count: int = 1) -> None:
    """Wait until a text is in a file so many times, and fail if it is there more often."""
    async with asyncio.timeout(WAIT_S):
        while not file.exists() or file.read_text().count(f'"{text}"') < count:
            await asyncio.sleep(0.05)
    assert file.read_text().count(f'"{text}"') == count


@pytest.mark.timeout(RUN_S)
async def test_every_command_of_the_page_shows_what_the_page_says(tmp_path: Path) -> None:
    first, publish, follow, post, poll = SHELL
    data = tmp_path / ".beaconfire"
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    port = free_ports()
    options = ("--port", str(port), "--data", str(data), "--gateways", "1", "--only", "campaign")
    with terminal(tmp_path, "up", *options) as up:
        await asyncio.to_thread(up.wait_for, "Open")
        first = first.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
        first = first.replace("http://127.0.0.1:8082", DataFolder(data).running().publisher_url)
        async with shell(tmp_path) as reader:
            reader.type(first)
            await reader.shows("event: connection.ack", '"success":true')
            reader.type(publish)
            await reader.shows("\nid: ", '"settlement_updated"')

            reader.type(follow)
            await contains(tmp_path / "seen", "connection.ack")
            reader.type("kill %1; wait\n" + publish)
            reader.type("follow &")
            await contains(tmp_path / "seen", "settlement_updated")
            reader.type("kill %1; wait\nfollow &\n" + publish)
            await contains(tmp_path / "seen", "settlement_updated", count=2)

            reader.type(post)
            await reader.shows("event: connection.ack")
            reader.type(publish)
            await reader.shows("settlement_updated")

            reader.type("kill %1 %2; wait\n" + poll)
            reader.type(publish)
            await reader.shows('"settlement_updated"', '"cursor"')


async def test_script_of_the_page_hears_every_event_although_tokens_end(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    """Each token ends after two seconds. The script asks for the next ticket, from where it was."""
    (script,) = [block.text for block in blocks(PAGE) if block.language == "js"]
    tickets: list[str] = []
    published: list[str] = []

    def give_token() -> str:
        tickets.append(auth.token("viewer", ttl_s=2))
        return tickets[-1]

    async with running_gateway(stream, auth) as gateway:
        page = await chromium.new_page(bypass_csp=True)
        await page.expose_function("accessToken", give_token)
        await page.goto(f"{gateway.url}/healthz")
        await page.add_script_tag(content=f"const GATEWAY = location.origin;\n{script}")
        await page.evaluate(
            """() => {
                window.heard = [];
                window.acks = 0;
                window.EventSource = class extends EventSource {
                    constructor(...all) {
                        super(...all);
                        this.addEventListener("connection.ack", () => acks++);
                    }
                };
                const onEvent = (event) => heard.push(event.payload.settlementId);
                listen(["campaign:c1"], {onEvent, onResync: () => heard.push("resync"), onLeft: () => {}});
            }"""
        )
        await page.wait_for_function("() => acks")
        while len(tickets) < 3:
            published.append(f"s{len(published)}")
            await gateway.publish(settlement(published[-1]))
            await page.wait_for_function("(name) => heard.includes(name)", arg=published[-1])
        heard = await page.evaluate("heard")
        await page.close()

    assert heard == published

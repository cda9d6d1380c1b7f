"""The browser code of README.md works as written. (`tests/tools/test_cli.py` runs its publisher.)"""

import asyncio
import json
import os
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

from tests.architecture.sources import ROOT
from tests.docs.tree import blocks
from tests.faults.world import world

CLIENT = ROOT / "clients" / "js" / "src" / "index.js"
APPLICATION = """
const fetchAccessToken = async () => process.env.TOKEN;
const loadState = () => console.log(JSON.stringify("loaded"));
const applyEvent = (event) => console.log(JSON.stringify(event));
"""
TIMEOUT_S = 30


async def test_readmes_browser_code_loads_the_state_and_hears_the_next_event(tmp_path: Path) -> None:
    """`onReady` runs once the room is joined, and an event that is published after that reaches `onEvent`."""
    [code] = [block.text for block in blocks("README.md") if block.language == "js"]
    node, _ = compute_driver_executable()
    async with world(tmp_path, gateways=1) as one, asyncio.timeout(TIMEOUT_S):
        one.auth.members["u1"] = {"campaign:c1": "viewer"}
        url = f"{one.gateways[0].url.replace('http', 'ws', 1)}/ws"
        script = tmp_path / "application.mjs"
        code = code.replace("/client/index.js", CLIENT.as_uri()).replace("wss://live.example/ws", url)
        script.write_text(APPLICATION + code)
        process = await asyncio.create_subprocess_exec(
            node, script, env={**os.environ, "TOKEN": one.auth.token("u1")}, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            state = json.loads(await process.stdout.readline())
            offset = await one.publish()
            event = json.loads(await process.stdout.readline())
        finally:
            process.kill()
            await process.wait()

    assert state == "loaded"
    assert event["id"] == one.acknowledged[offset]
    assert event["payload"]["campaignId"] == "c1"

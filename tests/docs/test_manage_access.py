"""docs/howto/manage_access.md: every line runs as it stands there, on a set with an outside issuer."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaconfire.data_folder import DataFolder
from tests.conftest import At, connected
from tests.docs.tree import ROOT, RUN_S, blocks
from tests.tools.terminal import free_ports, terminal

PAGE = "docs/howto/manage_access.md"
LIST = ".venv/bin/beaconfire member list workspace:w1 --json"
ISSUER = {"name": "acme", "issuer": "https://id.example", "jwksUrl": "http://127.0.0.1:1/", "audience": "beaconfire"}


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / ".beaconfire"
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    issuers = {"BEACONFIRE_OUTSIDE_ISSUERS": json.dumps([ISSUER])}
    options = ("--port", str(free_ports()), "--data", str(data), "--gateways", "1", "--no-demo", "--only", "campaign")
    with terminal(tmp_path, "up", *options, **issuers) as up:
        up.wait_for("Open")
        yield data


def shell(folder: Path, script: str) -> str:
    """Run a script in a folder, where each command has to succeed. Returns what it prints."""
    fails = 'curl() { command curl --silent --show-error --fail-with-body "$@" && echo; }\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", fails + script],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def roles(listed: str) -> dict[str, str]:
    """The roles of members as the command line lists them."""
    return {member["userId"]: member["role"] for member in json.loads(listed)}


@pytest.mark.timeout(RUN_S)
def test_each_curl_of_the_page_succeeds_and_ends_in_the_members_that_it_names(data: Path) -> None:
    running = DataFolder(data).running()
    first, *others = [block.text for block in blocks(PAGE) if block.language == "sh" and "curl" in block.text]
    setup = "\n".join(first.splitlines()[:2]).replace("http://127.0.0.1:8081", running.auth_url)
    said = shell(data.parent, "\n".join([setup, *first.splitlines()[2:], *others]))

    answers = [json.loads(line) for line in said.splitlines() if line]
    assert answers[0]["changed"]
    assert roles(json.dumps(answers[2]["members"])) == {"acme-42": "owner", "acme-43": "viewer"}
    assert answers[-1]["version"] > 0
    assert sorted(roles(shell(data.parent, LIST)).values()) == ["editor", "editor", "owner"]


@pytest.mark.timeout(RUN_S)
def test_commands_of_the_page_work_with_its_file(data: Path) -> None:
    (csv,) = [block.text for block in blocks(PAGE) if block.language == "csv"]
    (data.parent / "members.csv").write_text(csv)
    (commands,) = [block.text for block in blocks(PAGE) if block.language == "sh" and "member import" in block.text]
    said = shell(data.parent, commands)

    assert "3 lines: 1 would change, 2 unchanged, 0 refused" in said
    assert "3 lines: 1 changed, 2 unchanged, 0 refused" in said


async def test_request_and_client_of_the_page_work_over_the_broker(data: Path) -> None:
    issue = ".venv/bin/beaconfire service-token issue backend 'workspace.*.member.*'"
    token = (await asyncio.to_thread(shell, data.parent, issue)).strip()
    (client,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    (request,) = [block.text for block in blocks(PAGE) if block.language == "sh" and "nats request" in block.text]
    nats = f'TOKEN={token}\nnats() {{ printf \'%s\\n\' "$2" "$3"; }}\n'  # the program need not be installed here
    subject, _, body = (await asyncio.to_thread(shell, data.parent, nats + request)).partition("\n")
    folder = DataFolder(data)
    async with connected(At(folder.running().nats_url, folder.passwords()), "publisher") as nc:
        page: dict[str, Any] = {}
        lines = "".join(f"    {line}\n" for line in client.splitlines())
        exec(f"async def follow(nc, service_token):\n{lines}", page)
        await page["follow"](nc, token)
        answer = json.loads((await nc.request(subject, body.encode(), timeout=20)).data)
    members = await asyncio.to_thread(shell, data.parent, LIST)

    assert answer == {"member": {"userId": "acme-43", "role": "viewer"}, "changed": True}
    assert roles(members) == {"acme-42": "owner", "acme-43": "viewer"}

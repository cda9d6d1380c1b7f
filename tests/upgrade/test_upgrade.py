"""`beaconfire up` goes on with a data folder of the version before.

`data_folder.tar.gz` is the data folder of the last version without a workspace (commit f729811). Its `beaconfire up`
was started with the demo and one gateway. Emberford's population was changed to 1241, and Ctrl-C stopped it. Logs were
left out. `facts.json` has the last answers of its publisher: ids, and the cursor of a read.
"""

import json
import sqlite3
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from beaconfire import demo
from beaconfire.api import call
from beaconfire.data_folder import DataFolder
from beaconfire.migrate import SERVICES
from beaconfire_kit.gateway_buckets import BUCKETS
from tests.client import open_socket
from tests.tools.terminal import free_ports, terminal

HERE = Path(__file__).parent
FACTS = json.loads((HERE / "facts.json").read_text())


def unpacked(folder: Path) -> Path:
    """The data folder as the version before left it."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xzf", HERE / "data_folder.tar.gz", "-C", folder], check=True)
    return folder


def revision(data: Path, service: str) -> str:
    """The revision of a service's tables, as alembic notes it."""
    with sqlite3.connect(data / f"{service}.db") as database:
        (found,) = database.execute(f"SELECT version_num FROM beaconfire_{service}_revision")  # the table of before
    return str(found[0])


def streams(monitoring_url: str) -> dict[str, set[str]]:
    """The names of the broker's streams, with those of their durable consumers."""
    with urllib.request.urlopen(f"{monitoring_url}/jsz?consumers=true&config=true") as answer:
        details = json.load(answer)["account_details"][0]["stream_detail"]
    return {
        one["name"]: {
            consumer["name"] for consumer in one.get("consumer_detail") or () if consumer["config"].get("durable_name")
        }
        for one in details
    }


async def test_up_goes_on_with_a_data_folder_of_the_version_before(tmp_path: Path) -> None:
    """People sign in as before, the campaign is as it was left, and the stream goes on after its last offset."""
    data, port = unpacked(tmp_path / "data"), free_ports()
    with terminal(tmp_path, "up", "--port", str(port), "--data", str(data), "--gateways", "1") as one:
        one.wait_for("Open")
        sign_in = {"email": "owner@demo.example", "password": demo.PASSWORD}
        token = call("POST", f"http://127.0.0.1:{port + 1}/auth/sign-in", sign_in)["accessToken"]
        settlements = f"http://127.0.0.1:{port + 2}/v1/campaigns/{FACTS['campaign']}/settlements"
        before: dict[str, Any] = call("GET", f"{settlements}/{FACTS['settlement']}", token=token)["settlement"]
        structures = call("GET", f"{settlements}/{FACTS['settlement']}/structures", token=token)["structures"]
        async with open_socket(f"http://127.0.0.1:{port}") as client:
            ack = await client.connect(token, [f"campaign:{FACTS['campaign']}"])
            call("PATCH", f"{settlements}/{FACTS['settlement']}", {"population": 1242}, token=token)
            event = await client.next("event")
        durable = streams(DataFolder(data).running().monitoring_url)
        one.interrupt()
        assert one.ends() == 0, one.text

    epoch, _, offset = FACTS["cursor"].rpartition(":")
    assert (before["name"], before["population"]) == ("Emberford", 1241)
    assert (before["kingdomId"], before["variableSchemas"]) == (None, {})
    assert {one["name"]: one["type"] for one in structures} == {
        "Old Mill": "mill",
        "Smithy": "smithy",
        "Market Hall": "market",
    }
    assert ack["cursor"].startswith(f"{epoch}:")
    assert event["offset"] > int(offset)
    assert durable == {
        "EVENTS": {"auth-parents", "rules-engine", "scheduler"},
        "DEADLETTERS": set(),
        "KV_CATALOGUE": set(),
        **{bucket.stream: set() for bucket in BUCKETS.values()},
    }
    assert {name: revision(data, name) for name in SERVICES} == {name: one.head for name, one in SERVICES.items()}

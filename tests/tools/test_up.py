"""`beaconfire up`, as a person uses it."""

import asyncio
import io
import json
import os
import signal
import socket
import sqlite3
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tools.terminal import Terminal, free_ports, have_ended, processes_of, run, terminal
from tools import demo
from tools.api import call
from tools.cluster import Plan, Services
from tools.log_stream import LogStream
from tools.up import _stopping

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc"),
    pytest.mark.timeout(180),  # a set is started two times, on a machine that is busy with other tests
]


def up(folder: Path, port: int, *more: str) -> tuple[str, ...]:
    """The arguments of an `up` with one gateway, which starts faster than two."""
    return ("up", "--port", str(port), "--data", str(folder / "data"), "--gateways", "1", *more)


def stopped_in_order(one: Terminal, folder: Path) -> None:
    """Ctrl-C, and everything has ended."""
    one.interrupt()
    assert one.ends() == 0, one.text
    assert "Traceback" not in one.text
    assert processes_of(folder) == {}


def test_it_starts_serves_and_stops(tmp_path: Path) -> None:
    """It prints address and sign-ins, the page is there, two gateways share the port, and Ctrl-C leaves nothing."""
    port = free_ports()
    with terminal(tmp_path, "up", "--port", str(port), "--data", str(tmp_path / "data")) as one:
        assert f"http://127.0.0.1:{port}" in one.wait_for("Open")
        for person in demo.PEOPLE:
            one.wait_for(person.email)

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config.json") as answer:
            config = json.load(answer)
        assert config["authUrl"] == f"http://127.0.0.1:{port + 1}"
        assert config["publisherUrl"] == f"http://127.0.0.1:{port + 2}"
        assert [person["email"] for person in config["demo"]] == [person.email for person in demo.PEOPLE]
        assert sum("services.gateway" in command for command in processes_of(tmp_path).values()) == 2

        stopped_in_order(one, tmp_path)


def test_killed_and_run_again(tmp_path: Path) -> None:
    """kill -9 of `up` itself takes its children along. The next one on the same folder has the campaign of the first,
    once, and what was changed in it."""
    port = free_ports()
    with terminal(tmp_path, *up(tmp_path, port)) as one:
        one.wait_for("Open")
        settlements, url, token = settlements_of_the_demo(port)
        call("DELETE", f"{url}/{settlements[0]['id']}", token=token)
        children = set(processes_of(tmp_path)) - {one.process.pid or 0}
        assert len(children) >= 4

        one.process.kill()

        assert have_ended(children)

    with terminal(tmp_path, *up(tmp_path, port)) as again:
        again.wait_for("Open")
        left, _, _ = settlements_of_the_demo(port)
        stopped_in_order(again, tmp_path)

    assert len(settlements) == len(demo.SETTLEMENTS)
    assert {one["id"] for one in left} == {one["id"] for one in settlements[1:]}


def settlements_of_the_demo(port: int) -> tuple[list[dict[str, Any]], str, str]:
    """The settlements of the only campaign, their address and its owner's token."""
    sign_in = {"email": demo.PEOPLE[0].email, "password": demo.PASSWORD}
    token = call("POST", f"http://127.0.0.1:{port + 1}/auth/sign-in", sign_in)["accessToken"]
    [campaign] = call("GET", f"http://127.0.0.1:{port + 2}/v1/campaigns", token=token)["campaigns"]
    assert campaign["name"] == demo.CAMPAIGN
    url = f"http://127.0.0.1:{port + 2}/v1/campaigns/{campaign['id']}/settlements"
    return call("GET", url, token=token)["settlements"], url, token


PARTS = {
    "broker": "nats-server.conf",
    "auth": "-m services.auth",
    "publisher": "-m services.publisher",
    "rules-engine": "-m services.publisher rules-engine",
    "scheduler": "-m services.publisher scheduler",
    "gateway-1": "-m services.gateway",
}
"""How the command of each part ends."""


def test_a_part_that_dies_is_named_and_started_again(tmp_path: Path) -> None:
    """After kill -9 of a part the stream says so and starts it again, part after part, and Ctrl-C still stops all."""
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo")) as one:
        one.wait_for("Open")
        for name, ending in PARTS.items():
            [pid] = [pid for pid, command in processes_of(tmp_path).items() if command.strip().endswith(ending)]

            os.kill(pid, signal.SIGKILL)

            one.wait_for(f"{name} was killed by SIGKILL")
            one.wait_for(f"starting {name} again")
        stopped_in_order(one, tmp_path)


def test_sigterm_while_starting_stops_everything(tmp_path: Path) -> None:
    """It can be stopped before it is up."""
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--verbose")) as one:
        one.wait_for("broker")

        one.process.terminate()

        assert one.ends() == 0, one.text
        assert "Traceback" not in one.text
        assert processes_of(tmp_path) == {}


def test_sigterm_in_an_event_loop(tmp_path: Path) -> None:
    """It can be stopped while it talks to the broker, whatever its event loop is calling at that moment."""

    async def talk() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        await asyncio.sleep(10)

    said = io.StringIO()
    with _stopping(Services(Plan(tmp_path)), LogStream(Console(file=said))):
        asyncio.run(talk())
        pytest.fail("it went on")

    assert "everything has ended" in said.getvalue()


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_a_taken_port_is_named(tmp_path: Path, offset: int) -> None:
    """A port that somebody has is an error that names it and says how to choose another, before anything starts."""
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + offset)):
        one = run(tmp_path, *up(tmp_path, port))

    assert one.process.exit_code == 1
    assert f"port {port + offset} " in one.text
    assert f"--port {port + 100}" in one.text
    assert "Traceback" not in one.text
    assert not (tmp_path / "data" / "nats").exists()


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    """A file where the folder should be is an error that says so."""
    (tmp_path / "data").write_text("mine")

    one = run(tmp_path, *up(tmp_path, free_ports()))

    assert one.process.exit_code == 1
    assert f"{tmp_path / 'data'} is not a folder" in one.text
    assert (tmp_path / "data").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A place where nothing can be written is an error that says so."""
    one = run(tmp_path, "up", "--port", str(free_ports()), "--data", "/proc/beaconfire")

    assert one.process.exit_code == 1
    assert "cannot write in /proc/beaconfire" in one.text
    assert "Traceback" not in one.text


def test_a_corrupt_database_is_named(tmp_path: Path) -> None:
    """A database that is none is an error that names the service and the file, and nothing is left running."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "auth.db").write_text("this is no database, whatever its name says" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "data" / "auth.db").execute("SELECT * FROM sqlite_master")

    one = run(tmp_path, *up(tmp_path, free_ports()))

    assert one.process.exit_code == 1
    assert "auth ended with" in one.text
    assert "auth.db" in one.text
    assert "Traceback" not in one.text
    assert processes_of(tmp_path) == {}


def test_two_on_one_folder(tmp_path: Path) -> None:
    """A second `up` on a folder in use is refused, names the first, and does it no harm."""
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo")) as one:
        one.wait_for("Open")

        other = run(tmp_path, *up(tmp_path, free_ports(), "--no-demo"))

        assert other.process.exit_code == 1
        assert f"in use by another `beaconfire up` (process {one.process.pid})" in other.text
        stopped_in_order(one, tmp_path)


def test_fresh_removes_only_what_is_ours(tmp_path: Path) -> None:
    """--fresh starts without the old data, and leaves files alone that `up` did not write. What lets somebody into the
    broker can be read by this user only."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "notes.txt").write_text("mine")
    (data / "auth.db").write_text("broken")

    with terminal(tmp_path, *up(tmp_path, free_ports(), "--fresh", "--no-demo")) as one:
        one.wait_for("Open")
        for name in ("passwords.json", "running.json", "nats/nats-server.conf"):
            assert (data / name).stat().st_mode & 0o077 == 0, "it lets everybody into the broker"
        stopped_in_order(one, tmp_path)

    assert (data / "notes.txt").read_text() == "mine"

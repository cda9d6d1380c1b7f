"""`beaconfire up`, as a person uses it."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from beaconfire import demo
from beaconfire.api import call
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.local_services import Plan, Services
from beaconfire.log_stream import LogStream
from beaconfire.operating import auth_operator
from beaconfire.processes import Process
from beaconfire.up import _stopping
from beaconfire_auth.seal import KeysUnusable, Seal
from beaconfire_auth.settings import DEVELOPMENT_SECRET
from beaconfire_demo.applications import APPLICATIONS
from tests.tools.terminal import PATIENCE_S, Terminal, free_ports, have_ended, processes_of, run, terminal

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc"),
    pytest.mark.timeout(180),  # a set is started two times, on a machine that is busy with other tests
]


def up(folder: Path, port: int, *more: str) -> tuple[str, ...]:
    """The arguments of an `up` with one gateway and one application, which starts faster than with all."""
    options = ("--port", str(port), "--data", str(folder / "data"), "--gateways", "1", "--only", "campaign")
    return ("up", *options, *more)


def stopped_in_order(one: Terminal, folder: Path) -> None:
    """Ctrl-C, and everything has ended."""
    one.interrupt()
    assert one.ends() == 0, one.text
    assert "Traceback" not in one.text
    assert processes_of(folder) == {}


def test_up_starts_every_application_prints_the_addresses_and_leaves_nothing_after_ctrl_c(tmp_path: Path) -> None:
    port = free_ports()
    with terminal(tmp_path, "up", "--port", str(port), "--data", str(tmp_path / "data"), COLUMNS="80") as one:
        assert f"http://127.0.0.1:{port}" in one.wait_for("Open")
        for application in APPLICATIONS.values():
            assert f"http://127.0.0.1:{port}/{application.name}/" in one.wait_for(application.title)
        for person in demo.PEOPLE:
            one.wait_for(person.email)

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config.json") as answer:
            config = json.load(answer)
        assert config["authUrl"] == f"http://127.0.0.1:{port + 1}"
        assert config["publisherUrl"] == f"http://127.0.0.1:{port + 2}"
        assert config["workspaceUrl"] == f"http://127.0.0.1:{port + 4}"
        assert config["trackerUrl"] == f"http://127.0.0.1:{port + 5}"
        assert [application["name"] for application in config["applications"]] == list(APPLICATIONS)
        assert [person["email"] for person in config["demo"]] == [person.email for person in demo.PEOPLE]
        for name in APPLICATIONS:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}/") as answer:
                assert answer.status == 200
        roots = roots_of_the_demo(port)
        assert roots == {
            "campaigns": [demo.campaign.CAMPAIGN],
            "workspaces": [demo.workspace.WORKSPACE],
            "tracker/workspaces": [demo.tracker.WORKSPACE],
        }
        assert sum("beaconfire_gateway" in command for command in processes_of(tmp_path).values()) == 2

        stopped_in_order(one, tmp_path)


def roots_of_the_demo(port: int) -> dict[str, list[str]]:
    """The names of the roots that the demo's owner has in each application. One sign-in serves all."""
    sign_in = {"email": demo.PEOPLE[0].email, "password": demo.PASSWORD}
    token = call("POST", f"http://127.0.0.1:{port + 1}/auth/sign-in", sign_in)["accessToken"]
    services = {"campaigns": port + 2, "workspaces": port + 4, "tracker/workspaces": port + 5}
    return {
        kind: [one["name"] for one in call("GET", f"http://127.0.0.1:{at}/v1/{kind}", token=token)[kind.split("/")[-1]]]
        for kind, at in services.items()
    }


def test_up_with_only_one_application_starts_no_other(tmp_path: Path) -> None:
    port = free_ports()
    options = ("--port", str(port), "--data", str(tmp_path / "data"), "--gateways", "1", "--only", "workspace")
    with terminal(tmp_path, "up", *options) as one:
        one.wait_for("Open")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config.json") as answer:
            config = json.load(answer)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            page = answer.read().decode()
        commands = list(processes_of(tmp_path).values())
        stopped_in_order(one, tmp_path)

    assert [application["name"] for application in config["applications"]] == ["workspace"]
    assert "workspace/page/main.js" in page
    assert any("beaconfire_demo.workspace" in command for command in commands)
    assert not any("scheduler" in command for command in commands)


def test_unknown_application_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    one = run(tmp_path, "up", "--only", "workspac")

    assert one.process.exit_code == 2
    assert "'workspac' is no application" in one.text
    assert all(name in one.text for name in APPLICATIONS)


def test_up_killed_with_its_children_continues_with_the_same_data(tmp_path: Path) -> None:
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

    assert len(settlements) == len(demo.campaign.SETTLEMENTS)
    assert {one["id"] for one in left} == {one["id"] for one in settlements[1:]}


def settlements_of_the_demo(port: int) -> tuple[list[dict[str, Any]], str, str]:
    """The settlements of the only campaign, their address and its owner's token."""
    sign_in = {"email": demo.PEOPLE[0].email, "password": demo.PASSWORD}
    token = call("POST", f"http://127.0.0.1:{port + 1}/auth/sign-in", sign_in)["accessToken"]
    [campaign] = call("GET", f"http://127.0.0.1:{port + 2}/v1/campaigns", token=token)["campaigns"]
    assert campaign["name"] == demo.campaign.CAMPAIGN
    url = f"http://127.0.0.1:{port + 2}/v1/campaigns/{campaign['id']}/settlements"
    return call("GET", url, token=token)["settlements"], url, token


def test_ctrl_c_stops_an_up_that_was_started_below_nohup(tmp_path: Path) -> None:
    """The end of the terminal does not."""
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo"), ignores="INT HUP") as one:
        one.wait_for("Ctrl-C")
        services = [pid for pid in processes_of(tmp_path) if pid != one.process.pid]
        assert one.process.pid is not None
        os.kill(one.process.pid, signal.SIGHUP)
        ignored = {pid: ignores(pid, signal.SIGINT) for pid in services}

        stopped_in_order(one, tmp_path)

    assert len(services) > 4
    assert not any(ignored.values())


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(line.split()[1] for line in lines if line.startswith("SigIgn"))
    return bool(int(ignored, 16) & 1 << number - 1)


def variables_of(pid: int) -> dict[str, str]:
    """The environment of a process."""
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def pids_in(text: str) -> dict[str, int]:
    """The process of each part, as `up` printed it."""
    return {name: int(pid) for name, pid in re.findall(r"([a-z]+(?:-[a-z0-9]+)?) (\d+)(?=\s)", text)}


def test_environment_variables_reach_the_services_and_ineffective_ones_are_named(tmp_path: Path) -> None:
    port = free_ports()
    given = {
        "BEACONFIRE_ALLOWED_ORIGINS": "http://LOCALHOST:3000/",
        "BEACONFIRE_HEARTBEAT_S": "7",
        "BEACONFIRE_ACCESS_TOKEN_TTL_S": "77",
        "BEACONFIRE_LOG_LEVEL": "warning",
        "BEACONFIRE_NATS_URL": "nats://broker.example:4222",
        "BEACONFIRE_HEARTBEATS": "7",
        "BEACONFIRE_COLOUR": "red",
    }
    with terminal(tmp_path, *up(tmp_path, port, "--no-demo", "--origin", "https://app.example:443"), **given) as one:
        one.wait_for("BEACONFIRE_COLOUR has no effect: no service has such a setting")
        one.wait_for(
            "BEACONFIRE_HEARTBEATS has no effect: there is no such setting; did you mean BEACONFIRE_HEARTBEAT_S?"
        )
        one.wait_for("BEACONFIRE_NATS_URL has no effect on `beaconfire up`: `up` starts its own broker")
        one.wait_for("Ctrl-C")
        pids = pids_in(one.text)
        gateway, auth = variables_of(pids["gateway-1"]), variables_of(pids["auth"])
        allowed = [allows(port + offset, "http://localhost:3000") for offset in (0, 1, 2)]
        also_allowed, foreign = allows(port + 1, "https://app.example"), allows(port + 1, "https://other.example")
        stopped_in_order(one, tmp_path)

    assert (gateway["BEACONFIRE_HEARTBEAT_S"], auth["BEACONFIRE_ACCESS_TOKEN_TTL_S"]) == ("7", "77")
    assert "BEACONFIRE_ACCESS_TOKEN_TTL_S" not in gateway
    assert {one["BEACONFIRE_LOG_LEVEL"] for one in (gateway, auth)} == {"warning"}
    assert gateway["BEACONFIRE_NATS_URL"] == f"nats://127.0.0.1:{port + 3}"
    assert (allowed, also_allowed, foreign) == ([True, True, True], True, False)


def allows(port: int, origin: str) -> bool:
    """Whether the service there lets a page of that origin read its answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz", headers={"Origin": origin})
    with urllib.request.urlopen(request) as answer:
        return bool(answer.headers["Access-Control-Allow-Origin"] == origin)


def test_chaos_kills_freezes_and_thaws_a_part_by_its_name(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo")) as one:
        one.wait_for("Ctrl-C")
        before = pids_in(one.text)["gateway-1"]

        killed = run(tmp_path, "chaos", "kill", "gateway-1", *data)
        one.wait_for("gateway-1 was killed by SIGKILL")
        after = int(one.wait_for("gateway-1 is now process").split()[-1])
        frozen = run(tmp_path, "chaos", "freeze", "gateway-1", *data)
        stands_still = state_of(after)
        run(tmp_path, "chaos", "thaw", "gateway-1", *data)
        goes_on = state_of(after)
        unknown = run(tmp_path, "chaos", "kill", "gateway-9", *data)
        stopped_in_order(one, tmp_path)

    assert f"gateway-1 (process {before}) was killed" in killed.text
    assert f"gateway-1 (process {after}) is frozen" in frozen.text
    assert (stands_still, goes_on != "T") == ("T", True)
    assert "there is no process 'gateway-9'. The processes are auth, broker, gateway-1," in unknown.text


def state_of(pid: int) -> str:
    """A letter of proc(5); T for one that stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_data_of_up_is_readable_by_its_user_only_and_signing_keys_are_sealed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in (data, data / "nats", data / "logs"):
        folder.mkdir(mode=0o755)
    (data / "publisher.db").touch(mode=0o644)
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo")) as one:
        one.wait_for("Ctrl-C")
        secret = variables_of(pids_in(one.text)["auth"])["BEACONFIRE_KEYS_SECRET"]
        stopped_in_order(one, tmp_path)

    open_to_others = [path.name for path in data.iterdir() if path.stat().st_mode & 0o077 and path.name != "lock"]
    assert open_to_others == []
    assert secret.split(",")[0] == json.loads((data / "passwords.json").read_text())["keys-secret"]
    with sqlite3.connect(data / "auth.db") as database:
        [(sealed,)] = database.execute("SELECT sealed FROM signing_keys")
    with pytest.raises(KeysUnusable):
        Seal([DEVELOPMENT_SECRET]).open(sealed, what="the signing key")


def test_command_of_another_user_on_a_running_folder_is_one_sentence(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    root = os.geteuid() == 0
    with folder.locked():
        folder.path.chmod(0)
        if root:
            os.seteuid(65534)
        try:
            for ask in (folder.running, folder.holder, folder.passwords):
                with pytest.raises(DataFolderUnusable, match=r"only the user who started|nothing runs on"):
                    ask()
        finally:
            if root:
                os.seteuid(0)
            folder.path.chmod(0o700)


def test_incomplete_data_folder_counts_as_not_running(tmp_path: Path) -> None:
    (tmp_path / "running.json").write_text("{}")

    with pytest.raises(DataFolderUnusable, match="nothing runs on"):
        DataFolder(tmp_path).running()


@pytest.mark.parametrize(
    ("url", "token", "missing"),
    [
        ("http://auth", None, "--operator-token"),
        (None, "secret", "--auth-ops"),
        (None, None, "--auth-ops and --operator"),
    ],
)
def test_operator_command_with_half_of_its_settings_names_the_rest_and_makes_no_folder(
    url: str | None, token: str | None, missing: str, tmp_path: Path
) -> None:
    with pytest.raises(DataFolderUnusable, match=missing):
        auth_operator(DataFolder(tmp_path / "none"), url, token)

    assert list(tmp_path.iterdir()) == []


def test_new_data_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "data").locked():
        mode = (tmp_path / "data").stat().st_mode & 0o777

    assert mode == 0o700


PARTS = {
    "broker": "nats-server.conf",
    "auth": "-m beaconfire_auth",
    "publisher": "-m beaconfire_publisher",
    "rules-engine": "-m beaconfire_publisher rules-engine",
    "scheduler": "-m beaconfire_publisher scheduler",
    "gateway-1": "-m beaconfire_gateway",
}
"""The end of each process's command line."""


def test_killed_part_is_named_and_restarted_and_ctrl_c_still_stops_all(tmp_path: Path) -> None:
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo")) as one:
        one.wait_for("Open")
        for name, ending in PARTS.items():
            [pid] = [pid for pid, command in processes_of(tmp_path).items() if command.strip().endswith(ending)]

            os.kill(pid, signal.SIGKILL)

            one.wait_for(f"{name} was killed by SIGKILL")
            one.wait_for(f"restarting {name}")
        stopped_in_order(one, tmp_path)


def test_sigterm_during_the_start_of_up_stops_everything(tmp_path: Path) -> None:
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--verbose")) as one:
        one.wait_for("broker")

        one.process.terminate()

        assert one.ends() == 0, one.text
        assert "Traceback" not in one.text
        assert processes_of(tmp_path) == {}


def test_sigterm_while_up_talks_to_the_broker_stops_it(tmp_path: Path) -> None:
    async def talk() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        await asyncio.sleep(10)

    said = io.StringIO()
    with _stopping(Services(Plan(tmp_path)), LogStream(Console(file=said))):
        asyncio.run(talk())
        pytest.fail("it went on")

    assert "everything has stopped" in said.getvalue()


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 5])
def test_taken_port_is_an_error_with_advice_before_anything_starts(tmp_path: Path, offset: int) -> None:
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + offset)):
        one = run(tmp_path, "up", "--port", str(port), "--data", str(tmp_path / "data"))

    assert one.process.exit_code == 1
    assert f"port {port + offset} " in one.text
    assert f"--port {port + 100}" in one.text
    assert "Traceback" not in one.text
    assert not (tmp_path / "data" / "nats").exists()


def test_page_of_ones_own_is_served_with_the_browser_client_and_edits_are_seen(tmp_path: Path) -> None:
    port, page = free_ports(), tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("my page")

    def get(path: str) -> tuple[str, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.read().decode(), answer.headers["Content-Security-Policy"]

    with terminal(tmp_path, *up(tmp_path, port, "--no-demo", "--page", str(page))) as one:
        one.wait_for("Open")
        before, policy = get("/")
        (page / "index.html").write_text("my page, changed")
        after, _ = get("/")
        client, _ = get("/client/index.js")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("/config.json")

        stopped_in_order(one, tmp_path)

    assert (before, after) == ("my page", "my page, changed")
    assert "export" in client
    assert "'unsafe-inline'" in policy
    assert f"http://127.0.0.1:{port + 1}" in policy


def test_files_of_the_current_folder_are_not_taken_for_python_modules(tmp_path: Path) -> None:
    """A `token.py` in the user's folder would stand in for Python's own module of this name."""
    (tmp_path / "token.py").write_text("raise SystemExit('imported by mistake')")
    command = f"cd '{tmp_path}' && exec '{sys.executable}' -P -m beaconfire up --gateways 1 --port {free_ports()}"
    opened = threading.Event()
    process = Process(
        "up",
        ["sh", "-c", command],
        log_path=tmp_path / "up.log",
        environment={"NO_COLOR": "1"},
        on_line=lambda _name, line: opened.set() if "Open  " in line else None,
    )
    process.start()
    try:
        is_open = opened.wait(PATIENCE_S)
    finally:
        process.stop(30)

    assert is_open, (tmp_path / "up.log").read_text()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("missing", "is not a folder: give one with an index.html to --page"),
        ("empty", "has no index.html, which browsers get at /"),
        (".", "contains the data folder"),
    ],
)
def test_page_that_cannot_be_served_is_an_error_that_says_why(page: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my page")
    (tmp_path / "empty").mkdir()

    one = run(tmp_path, *up(tmp_path, free_ports(), "--page", str(tmp_path / page)))

    assert one.process.exit_code == 1
    assert words in one.text
    assert not (tmp_path / "data").exists()


def test_file_in_place_of_the_data_folder_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")

    one = run(tmp_path, *up(tmp_path, free_ports()))

    assert one.process.exit_code == 1
    assert f"{tmp_path / 'data'} is not a folder" in one.text
    assert (tmp_path / "data").read_text() == "mine"


def test_data_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    one = run(tmp_path, "up", "--port", str(free_ports()), "--data", "/proc/beaconfire")

    assert one.process.exit_code == 1
    assert "cannot write in /proc/beaconfire" in one.text
    assert "Traceback" not in one.text


def test_corrupt_database_is_an_error_with_service_and_file_and_nothing_keeps_running(tmp_path: Path) -> None:
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


def test_second_up_on_a_folder_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with terminal(tmp_path, *up(tmp_path, free_ports(), "--no-demo")) as one:
        one.wait_for("Open")

        other = run(tmp_path, *up(tmp_path, free_ports(), "--no-demo"))

        assert other.process.exit_code == 1
        assert f"in use by another `beaconfire up` (process {one.process.pid})" in other.text
        stopped_in_order(one, tmp_path)


def test_fresh_removes_only_files_that_up_wrote(tmp_path: Path) -> None:
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

"""The browser client's own tests, run by the Node that Playwright brings."""

import fcntl
import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
TESTS = PACKAGE / "test"
INSTALL = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
INSTALL_S = 120


def test_js_connection_tests_pass() -> None:
    """Connecting, pauses, the circuit breaker, health, token renewal, handover: clients/js/test/connection.test.js."""
    _run("connection")


def test_js_room_tests_pass() -> None:
    """Rooms shared, never doubled, kept over reconnects; the cursor: clients/js/test/rooms.test.js."""
    _run("rooms")


def test_js_restore_tests_pass() -> None:
    """From a snapshot on, and rooms that a connection comes back without: clients/js/test/restore.test.js."""
    _run("restore")


def test_js_seen_tests_pass() -> None:
    """Waiting for one's own change, and a cursor that outlives the page: clients/js/test/seen.test.js."""
    _run("seen")


def test_js_indicator_tests_pass() -> None:
    """What the indicator says in each state: clients/js/test/indicator.test.js."""
    _run("indicator")


def test_js_package_tests_pass() -> None:
    """With the package `ws` in Node, and with a bundler: clients/js/test/packages.test.js."""
    with (PACKAGE / "package.json").open() as lock:  # one test process after the other
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (PACKAGE / "node_modules" / "ws").is_dir():
            result = subprocess.run(INSTALL, cwd=PACKAGE, capture_output=True, text=True, timeout=INSTALL_S)
            assert result.returncode == 0, result.stdout + result.stderr
    _run("packages")


def test_every_js_test_file_is_run() -> None:
    there = {path.name.removesuffix(".test.js") for path in TESTS.glob("*.test.js")}
    assert there == {"connection", "rooms", "restore", "seen", "indicator", "packages"}


def _run(name: str) -> None:
    node, _ = compute_driver_executable()
    command = [node, "--test", str(TESTS / f"{name}.test.js")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr

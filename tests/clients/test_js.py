"""The browser client's own tests: clients/js/test, run by Vitest on the Node that Playwright brings."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.javascript import PACKAGE, install_packages, node

TESTS = PACKAGE / "test"
RUN_S = 120

Failures = dict[str, list[str]]


@pytest.fixture(name="failures", scope="module")
def _failures(tmp_path_factory: pytest.TempPathFactory) -> Failures:
    """Vitest runs all files at once, which is faster than one by one. Returns what failed in each file."""
    install_packages()
    report = tmp_path_factory.mktemp("vitest") / "report.json"
    command = [node(), "node_modules/vitest/vitest.mjs", "run", "--reporter=json", f"--outputFile={report}"]
    result = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=RUN_S)
    assert report.is_file(), result.stdout + result.stderr
    return {
        Path(file["name"]).name.removesuffix(".test.js"): _failed(file)
        for file in json.loads(report.read_text())["testResults"]
    }


def test_js_connection_tests_pass(failures: Failures) -> None:
    """Connecting, pauses, the circuit breaker, health, token renewal, handover: clients/js/test/connection.test.js."""
    assert failures["connection"] == []


def test_js_room_tests_pass(failures: Failures) -> None:
    """The client's own tests of rooms and of the cursor pass (clients/js/test/rooms.test.js)."""
    assert failures["rooms"] == []


def test_js_restore_tests_pass(failures: Failures) -> None:
    """From a snapshot on, and rooms that a connection comes back without: clients/js/test/restore.test.js."""
    assert failures["restore"] == []


def test_js_seen_tests_pass(failures: Failures) -> None:
    """Waiting for one's own change, and a cursor that outlives the page: clients/js/test/seen.test.js."""
    assert failures["seen"] == []


def test_js_indicator_tests_pass(failures: Failures) -> None:
    """The indicator has a text for each state: clients/js/test/indicator.test.js."""
    assert failures["indicator"] == []


def test_js_fallback_tests_pass(failures: Failures) -> None:
    """Ways without WebSockets, and the way back to one: clients/js/test/fallback.test.js."""
    assert failures["fallback"] == []


def test_js_surface_tests_pass(failures: Failures) -> None:
    """Stores, loops, presence, typing and reported errors: clients/js/test/surface.test.js."""
    assert failures["surface"] == []


def test_js_cache_tests_pass(failures: Failures) -> None:
    """How changes of rapid events are merged and bounded: clients/js/test/caches.test.js."""
    assert failures["caches"] == []


def test_js_offline_tests_pass(failures: Failures) -> None:
    """Changes that are kept and sent later, and optimistic changes: clients/js/test/offline.test.js."""
    assert failures["offline"] == []


def test_js_tab_tests_pass(failures: Failures) -> None:
    """Several tabs with one connection: clients/js/test/tabs.test.js."""
    assert failures["tabs"] == []


def test_js_package_tests_pass(failures: Failures) -> None:
    """With the package `ws` in Node, and with a bundler: clients/js/test/packages.test.js."""
    assert failures["packages"] == []


def test_every_js_test_file_is_run() -> None:
    there = {path.name.removesuffix(".test.js") for path in TESTS.glob("*.test.js")}
    assert there == {
        "connection",
        "rooms",
        "restore",
        "seen",
        "indicator",
        "fallback",
        "offline",
        "packages",
        "surface",
        "tabs",
        "caches",
    }


def _failed(file: dict[str, Any]) -> list[str]:
    """Return what Vitest says of the tests of a file that failed, or of the file if it could not be run."""
    tests = file["assertionResults"]
    failed = [f"{test['fullName']}: {test['failureMessages']}" for test in tests if test["status"] != "passed"]
    return failed or ([] if file["status"] == "passed" and tests else [file["message"] or "There is no test"])

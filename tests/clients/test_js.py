"""The browser client's own tests, run by the Node that Playwright brings."""

from tests.javascript import PACKAGE, install_packages, run_node

TESTS = PACKAGE / "test"


def test_js_connection_tests_pass() -> None:
    """Connecting, pauses, the circuit breaker, health, token renewal, handover: clients/js/test/connection.test.js."""
    _run("connection")


def test_js_room_tests_pass() -> None:
    """The client's own tests of rooms and of the cursor pass (clients/js/test/rooms.test.js)."""
    _run("rooms")


def test_js_restore_tests_pass() -> None:
    """From a snapshot on, and rooms that a connection comes back without: clients/js/test/restore.test.js."""
    _run("restore")


def test_js_seen_tests_pass() -> None:
    """Waiting for one's own change, and a cursor that outlives the page: clients/js/test/seen.test.js."""
    _run("seen")


def test_js_indicator_tests_pass() -> None:
    """The indicator has a text for each state: clients/js/test/indicator.test.js."""
    _run("indicator")


def test_js_fallback_tests_pass() -> None:
    """Ways without WebSockets, and the way back to one: clients/js/test/fallback.test.js."""
    _run("fallback")


def test_js_surface_tests_pass() -> None:
    """Stores, loops, presence, typing and reported errors: clients/js/test/surface.test.js."""
    _run("surface")


def test_js_cache_tests_pass() -> None:
    """How changes of rapid events are merged and bounded: clients/js/test/caches.test.js."""
    _run("caches")


def test_js_offline_tests_pass() -> None:
    """Changes that are kept and sent later, and optimistic changes: clients/js/test/offline.test.js."""
    _run("offline")


def test_js_tab_tests_pass() -> None:
    """Several tabs with one connection: clients/js/test/tabs.test.js."""
    _run("tabs")


def test_js_package_tests_pass() -> None:
    """With the package `ws` in Node, and with a bundler: clients/js/test/packages.test.js."""
    install_packages()
    _run("packages")


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


def _run(name: str) -> None:
    run_node("--test", str(TESTS / f"{name}.test.js"))

"""The React package and the adapters for caches, with a real gateway, publisher and broker: clients/react/test."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.clients.stage import staged
from tests.javascript import CLIENTS, build_types, install_from_lock, node, run_node

REACT = CLIENTS / "react"
HOOKS = ("subscription", "room_state", "presence", "components", "server", "optimistic", "offline", "tabs")
CACHES = ("tanstack", "apollo", "store")
_RUN_S = 200

pytestmark = pytest.mark.timeout(_RUN_S)


@pytest.fixture(name="stage", scope="module")
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """All services, as the tests in JavaScript find them in their environment."""
    install_from_lock(REACT)
    with staged(tmp_path_factory.mktemp("stage")) as variable:
        yield variable


def test_hooks_and_components_work_with_react_19(stage: dict[str, str]) -> None:
    """Under StrictMode and on a server. A warning of React fails a test."""
    _vitest(stage, *HOOKS)


def test_hooks_and_components_work_with_react_18(stage: dict[str, str]) -> None:
    """The same tests with the oldest version that is supported."""
    install_from_lock(REACT / "test" / "react18")
    _vitest({**stage, "REACT": "18"}, *HOOKS)


def test_tanstack_query_follows_the_events_of_a_campaign(stage: dict[str, str]) -> None:
    """Things, lists, computed values, world time, rapid updates and a resync: clients/react/test/tanstack.test.jsx."""
    _vitest(stage, "tanstack")


def test_apollo_client_follows_the_events_of_a_campaign(stage: dict[str, str]) -> None:
    """Things, lists, computed values, world time, rapid updates and a resync: clients/react/test/apollo.test.jsx."""
    _vitest(stage, "apollo")


def test_plain_store_follows_the_events_of_a_campaign(stage: dict[str, str]) -> None:
    """Things, lists, computed values, world time and rapid updates, with Zustand: clients/react/test/store.test.jsx."""
    _vitest(stage, "store")


def test_every_test_file_of_the_react_package_is_run() -> None:
    there = {path.name.removesuffix(".test.jsx") for path in (REACT / "test").glob("*.test.jsx")}
    assert there == {*HOOKS, *CACHES}


def test_types_of_the_react_package_are_consistent() -> None:
    install_from_lock(REACT)
    build_types()
    run_node(str(REACT / "node_modules" / "typescript" / "bin" / "tsc"), "-p", str(REACT))


def _vitest(environment: dict[str, str], *names: str) -> None:
    command = [node(), "node_modules/vitest/vitest.mjs", "run", *(f"test/{name}.test.jsx" for name in names)]
    whole = {**os.environ, "NO_COLOR": "1", **environment}
    result = subprocess.run(command, cwd=REACT, env=whole, capture_output=True, text=True, timeout=_RUN_S)
    assert result.returncode == 0, result.stdout + result.stderr

"""The browser client's own tests, by the Node that Playwright brings: a machine without Node runs them too."""

import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

CLIENT = Path(__file__).parents[2] / "clients" / "js"


def test_unit_tests() -> None:
    """Every test of clients/js/test passes."""
    node, _ = compute_driver_executable()
    tests = sorted(str(path) for path in CLIENT.glob("test/*.test.js"))

    result = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=60)

    assert tests
    assert result.returncode == 0, result.stdout + result.stderr

"""The JavaScript client meets the fixtures: `javascript.mjs`, run by the Node that Playwright brings."""

from pathlib import Path

from tests.javascript import run_node

RUNNER = Path(__file__).with_name("javascript.mjs")


def test_javascript_client_meets_every_fixture() -> None:
    """The scripts, the verdicts after closes and errors, the back-off, the limits, and the messages of PROTOCOL.md."""
    run_node("--test", str(RUNNER))

"""docs/reference/http.md names exactly the calls that the services answer."""

import re
from collections.abc import Iterator

from beaconfire_kit.web import FOR_OPERATORS
from tests.architecture.sources import ROOT
from tests.docs.served import METHODS, applications, nameless, served

PAGE = ROOT / "docs/reference/http.md"


def named() -> Iterator[str]:
    """The same for each call of the page. One that starts with `…` is the end of a path."""
    for line in PAGE.read_text().splitlines():
        methods: list[str] = []
        was_path = True
        for span in re.findall(r"`([^`]+)`", line):
            method, _, path = span.rpartition(" ") if " " in span else ("", "", span)
            if span in METHODS or method in METHODS:
                methods = [*([] if was_path else methods), method or span]
                was_path = False
            if path.startswith(("/", "…/")) and span not in METHODS and methods:
                was_path = True
                yield from (f"{one} {nameless(path)}" for one in methods)


def _is(call: str, name: str) -> bool:
    method, path = name.split(" ")
    return call == name or ("…" in path and call.startswith(f"{method} ") and call.endswith(path.removeprefix("…")))


def test_every_served_call_has_a_row_on_the_http_page() -> None:
    names = set(named())
    missing = {call for call in served() if not any(_is(call, name) for name in names)}
    assert missing == set()


def test_every_row_of_the_http_page_is_a_served_call() -> None:
    calls = served()
    invented = {name for name in named() if not any(_is(call, name) for call in calls)}
    assert invented == set()


def test_operators_calls_are_compared_with_the_http_page() -> None:
    offered = [route for app in applications() for route in app.get(FOR_OPERATORS, ())]
    assert len(offered) >= 10

"""The logs of many processes, in readable form."""

import io
import json

from rich.console import Console

from beaconfire.log_stream import LogStream, plain

LISTENING = {
    "event": "listening",
    "level": "info",
    "logger": "beaconfire_kit.serving",
    "service": "auth",
    "timestamp": "2026-11-21T10:00:00Z",
    "port": 8081,
}
FAILED = {
    "event": "request failed",
    "level": "error",
    "exception": "Traceback (…)\n  File …\nValueError: no such thing",
}


class Screen:
    """A stream, and what it printed."""

    def __init__(self, level: str = "info") -> None:
        self._text = io.StringIO()
        self.stream = LogStream(Console(file=self._text, width=200), level=level)
        self.stream.is_open = True

    @property
    def text(self) -> str:
        return self._text.getvalue()


def test_log_line_is_shown_as_service_sentence_and_fields() -> None:
    screen = Screen()

    screen.stream.show("auth", json.dumps(LISTENING))

    assert "auth         listening  port=8081\n" in screen.text
    assert "beaconfire_kit.serving" not in screen.text


def test_debug_lines_are_shown_only_with_verbose() -> None:
    quiet, verbose = Screen(), Screen("debug")

    for screen in (quiet, verbose):
        screen.stream.show("auth", json.dumps({**LISTENING, "level": "debug"}))

    assert quiet.text == ""
    assert "listening" in verbose.text


def test_error_is_shown_with_its_level_and_the_last_line_of_its_trace() -> None:
    screen = Screen()

    screen.stream.show("auth", json.dumps(FAILED))

    assert " error  request failed  because=ValueError: no such thing" in screen.text
    assert "Traceback" not in screen.text


def test_nats_servers_warnings_are_shown_and_its_start_up_lines_are_debug() -> None:
    screen = Screen()

    screen.stream.show("broker", "[4711] 2026/11/21 10:00:00.123456 [INF] Server is ready")
    screen.stream.show("broker", "[4711] 2026/11/21 10:00:01.123456 [WRN] JetStream is nearly full")

    assert "Server is ready" not in screen.text
    assert "10:00:01 broker        warning  JetStream is nearly full" in screen.text


def test_foreign_lines_are_shown_unchanged() -> None:
    screen = Screen()

    screen.stream.show("auth", "Segmentation [fault]")

    assert "Segmentation [fault]" in screen.text


def test_service_logs_are_hidden_while_the_processes_start() -> None:
    screen = Screen()
    screen.stream.is_open = False

    screen.stream.show("auth", json.dumps(LISTENING))
    screen.stream.say("restarting auth")

    assert "listening" not in screen.text
    assert "beaconfire   restarting auth" in screen.text


def test_last_words_of_a_process_are_its_errors() -> None:
    assert plain([json.dumps(LISTENING), json.dumps(FAILED)]) == ("  request failed  because=ValueError: no such thing")


def test_repeated_lines_are_shown_once_and_counted() -> None:
    screen = Screen()

    for _ in range(4):
        screen.stream.show("auth", json.dumps(LISTENING))
    screen.stream.show("auth", json.dumps({**LISTENING, "event": "stopping"}))

    assert screen.text.count("listening") == 1
    assert "(and 3 more times)" in screen.text
    assert "stopping" in screen.text

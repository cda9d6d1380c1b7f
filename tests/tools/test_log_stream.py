"""beaconfire.log_stream: the logs of many processes, readable."""

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


def test_a_line_is_a_sentence_with_fields() -> None:
    """Service, sentence and fields are shown; logger and time stamp are not repeated."""
    screen = Screen()

    screen.stream.show("auth", json.dumps(LISTENING))

    assert "auth         listening  port=8081\n" in screen.text
    assert "beaconfire_kit.serving" not in screen.text


def test_debug_is_hidden_unless_asked_for() -> None:
    """`--verbose` shows everything, otherwise info and above are shown."""
    quiet, verbose = Screen(), Screen("debug")

    for screen in (quiet, verbose):
        screen.stream.show("auth", json.dumps({**LISTENING, "level": "debug"}))

    assert quiet.text == ""
    assert "listening" in verbose.text


def test_an_error_stands_out_without_its_trace() -> None:
    """The level is written out, and of a stack trace its last line is left."""
    screen = Screen()

    screen.stream.show("auth", json.dumps(FAILED))

    assert " error  request failed  because=ValueError: no such thing" in screen.text
    assert "Traceback" not in screen.text


def test_the_brokers_warnings_are_shown() -> None:
    """nats-server's own format is understood; its start-up chatter is debug."""
    screen = Screen()

    screen.stream.show("broker", "[4711] 2026/11/21 10:00:00.123456 [INF] Server is ready")
    screen.stream.show("broker", "[4711] 2026/11/21 10:00:01.123456 [WRN] JetStream is nearly full")

    assert "Server is ready" not in screen.text
    assert "10:00:01 broker        warning  JetStream is nearly full" in screen.text


def test_anything_else_is_shown_as_it_is() -> None:
    """A line that is no log line of ours is not lost."""
    screen = Screen()

    screen.stream.show("auth", "Segmentation [fault]")

    assert "Segmentation [fault]" in screen.text


def test_nothing_is_shown_before_it_is_open() -> None:
    """While the set starts, only our own words are printed."""
    screen = Screen()
    screen.stream.is_open = False

    screen.stream.show("auth", json.dumps(LISTENING))
    screen.stream.say("starting auth again")

    assert "listening" not in screen.text
    assert "beaconfire   starting auth again" in screen.text


def test_last_words_are_the_errors() -> None:
    """For a message to a person: what went wrong, without what went before it."""
    assert plain([json.dumps(LISTENING), json.dumps(FAILED)]) == ("  request failed  because=ValueError: no such thing")


def test_what_is_repeated_is_counted() -> None:
    """A process that says the same over and over is shown once, and then how often."""
    screen = Screen()

    for _ in range(4):
        screen.stream.show("auth", json.dumps(LISTENING))
    screen.stream.show("auth", json.dumps({**LISTENING, "event": "stopping"}))

    assert screen.text.count("listening") == 1
    assert "(and 3 more times)" in screen.text
    assert "stopping" in screen.text


DOCTORS = (
    '127.0.0.1:41590 - cid:38 - "v2.16.0:python3:doctor" - "$G/user:auth" - Publish Violation - Subject "live.doctor"',
    '127.0.0.1:41590 - cid:38 - "v2.16.0:python3:doctor" - "$G/user:a" - Subscription Violation - Subject ">", SID 1',
)


def test_what_doctor_tries_is_no_error_of_the_broker() -> None:
    """`beaconfire doctor` tries what each user must not do; the same from any other client stays an error."""
    screen = Screen()

    for text in DOCTORS:
        screen.stream.show("broker", f"[4711] 2026/11/21 10:00:00.123456 [ERR] {text}")
    assert screen.text == ""

    screen.stream.show("broker", f"[4711] 2026/11/21 10:00:00.123456 [ERR] {DOCTORS[0].replace(':doctor', ':weather')}")
    assert "error" in screen.text
    assert "weather" in screen.text

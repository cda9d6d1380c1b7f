"""beaconfire_kit.logs and beaconfire_kit.settings: no secret in a line, no start on a wrong value."""

import json
import subprocess
import sys

import pytest

from beaconfire_kit.logs import redact

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "abc-secret"},
        {"access_token": "abc-secret"},
        {"password": "abc-secret"},
        {"Authorization": "Bearer abc-secret"},
        {"payload": {"level": "abc-secret"}},
        {"body": b"abc-secret"},
        {"path": "/ws?token=abc-secret&x=1"},
        {"header": "Bearer abc-secret"},
    ],
)
def test_redacted(fields: dict[str, object]) -> None:
    """Fields with a secret's name, and secrets in a text, are blanked."""
    assert "abc-secret" not in str(redact(None, "info", {"event": "something", **fields}))


def test_a_jwt_anywhere() -> None:
    """What looks like a JWT is blanked wherever it stands, the sentence included."""
    line = redact(None, "info", {"event": f"refused {TOKEN}", "detail": f"({TOKEN})", "user": "u1"})

    assert TOKEN not in str(line)
    assert "eyJ" not in str(line)
    assert line["user"] == "u1"


def test_a_jwt_that_is_cut_off() -> None:
    """What only begins like a JWT is blanked, too, and with it all that follows it: it is looked at once."""
    line = redact(None, "info", {"event": "refused", "first": TOKEN.partition(".")[0], "many": "eyJ" * 5_000 + " ok"})

    assert (line["first"], line["many"]) == ("[redacted]", "[redacted] ok")


def test_a_line() -> None:
    """A log line is one JSON object with service, level, time, sentence and fields; exceptions are in it."""
    script = (
        "from beaconfire_kit import logs; logs.configure('gateway'); log = logs.get('x')\n"
        "log.info('something happened', room='campaign:c1', token='abc-secret')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: log.exception('it broke')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = (json.loads(line) for line in done.stderr.splitlines())

    assert (first["service"], first["level"], first["event"], first["room"]) == (
        "gateway",
        "info",
        "something happened",
        "campaign:c1",
    )
    assert "abc-secret" not in done.stderr
    assert "ZeroDivisionError" in second["exception"]


def test_fields_of_the_line_are_its_own() -> None:
    """A caller's field with the name of one that every line has keeps its value under another name."""
    script = (
        "from beaconfire_kit import logs; logs.configure('auth'); log = logs.get('x')\n"
        "log.info('issued', service='weather', level='high', timestamp='noon', logger='wood')\n"
        "import logging; logging.getLogger('library').warning('told')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    own, library = (json.loads(line) for line in done.stderr.splitlines())

    assert (own["service"], own["level"], own["logger"], own["timestamp"][:2]) == ("auth", "info", "x", "20")
    assert (own["service_"], own["level_"], own["timestamp_"], own["logger_"]) == ("weather", "high", "noon", "wood")
    assert (library["service"], library["level"], library["logger"]) == ("auth", "warning", "library")


@pytest.mark.parametrize(
    "fields",
    [
        {"token_id": "fedcba9876543210"},
        {"service_token_ids": ["a", "b"]},
        {"service_tokens": 3},
        {"token_count": 3},
        {"payload_bytes": 65_536},
        {"body": None},
        {"with_password": True},
    ],
)
def test_harmless_fields_are_kept(fields: dict[str, object]) -> None:
    """Which token it was, how many and how large may be read."""
    assert redact(None, "info", {"event": "something", **fields}) == {"event": "something", **fields}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BEACONFIRE_PORT", "many"),
        ("BEACONFIRE_PORT", "70000"),
        ("BEACONFIRE_LOG_LEVEL", "loud"),
        ("BEACONFIRE_HEARTBEAT_S", "0"),
        ("BEACONFIRE_STATIC_DIR", "/nowhere"),
    ],
)
def test_wrong_value(variable: str, value: str) -> None:
    """A wrong setting stops the start with the variable's name, exit code 2, and no stack trace."""
    done = subprocess.run(
        [sys.executable, "-m", "beaconfire_gateway"], env={variable: value}, capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 2
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_http() -> None:
    """What aiohttp logs of a request that is no HTTP is one line, without a stack trace and without what was sent."""
    script = (
        "import logging; from aiohttp.http_exceptions import LineTooLong; from beaconfire_kit import logs\n"
        "logs.configure('gateway', level='info')\n"
        "try: raise LineTooLong(b'Bearer abc-secret', 8190)\n"
        "except LineTooLong: logging.getLogger('aiohttp.server').exception('Error from %s', '::1')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('aiohttp.server').exception('it broke')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = (json.loads(line) for line in done.stderr.splitlines())

    assert (first["event"], first["level"]) == ("refused a malformed HTTP request", "info")
    assert "secret" not in done.stderr
    assert "exception" not in first
    assert "ZeroDivisionError" in second["exception"]

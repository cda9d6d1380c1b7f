"""Logs contain no secret, and a wrong setting stops the start."""

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
def test_fields_with_a_secrets_name_and_secrets_in_text_are_redacted(fields: dict[str, object]) -> None:
    assert "abc-secret" not in str(redact(None, "info", {"event": "something", **fields}))


def test_jwt_anywhere_in_a_log_line_is_redacted() -> None:
    line = redact(None, "info", {"event": f"refused {TOKEN}", "detail": f"({TOKEN})", "user": "u1"})

    assert TOKEN not in str(line)
    assert "eyJ" not in str(line)
    assert line["user"] == "u1"


def test_beginning_of_a_jwt_is_redacted_with_everything_after_it() -> None:
    line = redact(None, "info", {"event": "refused", "first": TOKEN.partition(".")[0], "many": "eyJ" * 5_000 + " ok"})

    assert (line["first"], line["many"]) == ("[redacted]", "[redacted] ok")


def test_log_line_is_one_json_object_with_service_level_time_and_exceptions() -> None:
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


def test_field_named_like_one_of_every_line_keeps_its_value_under_another_name() -> None:
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
def test_token_ids_counts_and_sizes_are_not_redacted(fields: dict[str, object]) -> None:
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
def test_wrong_setting_ends_the_start_with_code_2_and_the_variables_name(variable: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "beaconfire_gateway"], env={variable: value}, capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 2
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_request_that_is_no_http_is_logged_in_one_line_without_its_content() -> None:
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

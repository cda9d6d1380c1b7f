"""docs/topics/limits.md has the numbers of the code."""

import re
from typing import Any

import pytest

from beaconfire_auth.settings import Settings as AuthSettings
from beaconfire_gateway.process.settings import Settings as GatewaySettings
from beaconfire_gateway.sessions.authorization import AskingPolicy
from beaconfire_gateway.sessions.gateway import LOSING_S
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_kit import broker
from tests.architecture.sources import ROOT

PAGE = re.sub(r"\s+", " ", (ROOT / "docs/topics/limits.md").read_text())
POLICY = AskingPolicy()
DAY_S = 24 * 3600


def default_of(settings: type[Any], name: str) -> Any:
    return settings.model_fields[name].default


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("seven days or 8 GiB of events", (broker.MAX_AGE_S, broker.MAX_BYTES), (7 * DAY_S, 8 * 1024**3)),
        ("until it is a minute old** (`BEACONFIRE_RING_AGE_S`)", default_of(GatewaySettings, "ring_age_s"), 60),
        ("no closer to the newest event after a minute", LOSING_S, 60),
        ("asks auth at most 64 questions at a time", POLICY.asks_at_once, 64),
        ("has waited for 5 seconds is told to try again", POLICY.wait_s, 5),
        ("If 5,000 sockets have not sent `connect` yet", Limits().max_connecting, 5_000),
        ("Together they may have 200 connections", Limits().max_sessions_per_address, 200),
        ("up to one heartbeat (25 s)", Limits().heartbeat_s, 25),
        ("within 15 minutes on NATS", broker.DUPLICATE_WINDOW_S, 15 * 60),
        (
            "15 minutes by default (`BEACONFIRE_ACCESS_TOKEN_TTL_S`)",
            default_of(AuthSettings, "access_token_ttl_s"),
            15 * 60,
        ),
        ("may try to sign up ten times a minute", default_of(AuthSettings, "attempts_per_minute_address"), 10),
        ("stays in its rooms for up to ten minutes", POLICY.lease_s, 600),
        ("leaves its rooms after 10 s", POLICY.doubt_s, 10),
    ],
)
def test_number_on_the_page_is_that_of_the_code(text: str, found: object, expected: object) -> None:
    assert text in PAGE
    assert found == expected


def test_page_says_what_beaconfire_does_not_do_on_purpose() -> None:
    for sentence in (
        "A client cannot call a service through the gateway.",
        "No code of yours runs in a gateway.",
    ):
        assert f"* **{sentence}**" in PAGE

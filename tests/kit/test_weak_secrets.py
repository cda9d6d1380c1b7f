"""Weak secrets are recognised."""

import secrets
from collections.abc import Callable

import pytest

from beaconfire_kit.weak_secrets import MIN_KEY, MIN_PASSWORD, weakness


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "a" * 15,
        "changeme",
        "changeme-changeme-changeme-now",
        "MyPassword2026IsVeryLong",
        "a" * 64,
        "abababababababababababab",
        "beaconfire-beaconfire-2026",
        "development-only-not-a-secret",
    ],
)
def test_short_repeated_and_well_known_secrets_are_weak_and_not_repeated_in_the_reason(secret: str) -> None:
    why = weakness(secret, min_length=MIN_PASSWORD)

    assert why is not None
    assert len(secret) < 8 or secret not in why


@pytest.mark.parametrize("make", [lambda: secrets.token_hex(24), lambda: secrets.token_urlsafe(24)])
def test_documented_ways_to_make_a_secret_give_strong_ones(make: Callable[[], str]) -> None:
    assert weakness(make(), min_length=MIN_KEY) is None

"""beaconfire_kit.weak_secrets: secrets that are none."""

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
def test_weak(secret: str) -> None:
    """Short, repeated and well-known secrets are weak, and the reason does not repeat them."""
    why = weakness(secret, min_length=MIN_PASSWORD)

    assert why is not None
    assert len(secret) < 8 or secret not in why


@pytest.mark.parametrize("make", [lambda: secrets.token_hex(24), lambda: secrets.token_urlsafe(24)])
def test_random(make: Callable[[], str]) -> None:
    """What the documentation says how to make is strong."""
    assert weakness(make(), min_length=MIN_KEY) is None

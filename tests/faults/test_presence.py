"""Who is here, through faults of gateways, for users of every way in."""

import pytest

from tests.faults.presence import FAULTS, RESIDENTS, run

NATIVE = RESIDENTS[:1]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", FAULTS)
async def test_nobody_lingers_is_missing_or_flickers_through_faults(name: str) -> None:
    outcome = await run(name, rounds=1)

    assert outcome.trouble == []
    assert outcome.healed_s


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("sabotage", "name", "found"),
    [
        ("silent gateways", "gateways killed -9", "sees the ghost of guest-0-0"),
        ("grace", "clients moved to another gateway", "was told that native-0 is gone"),
        ("answers", "gateways cut off for a moment", "native-1 misses native-0"),
    ],
)
async def test_checker_finds_ghosts_flickers_and_missing_users(sabotage: str, name: str, found: str) -> None:
    """Of gateways that lack the safeguard against it."""
    outcome = await run(name, rounds=1, sabotage=sabotage, patience_s=18, ways=NATIVE)

    assert [one for one in outcome.trouble if found in one]

"""The catalogue changes under load, with faults in the middle of each push."""

from pathlib import Path

import pytest

from tests.faults.catalogue import run

PUSHES = 8
FOLLOWERS = 4


@pytest.mark.timeout(180)
async def test_every_event_is_judged_by_the_revision_at_its_offset_through_faults(tmp_path: Path) -> None:
    """Eight changes of the catalogue under load, each with a fault in the middle. `make faults` does more of them."""
    outcome = await run(tmp_path, pushes=PUSHES, followers=FOLLOWERS)

    assert outcome.is_clean, str(outcome)
    assert outcome.revisions > PUSHES // 2
    assert outcome.otherwise_now > 0
    assert min(outcome.valid, outcome.invalid) > 100


@pytest.mark.timeout(180)
async def test_a_gateway_that_judges_by_the_newest_revision_is_found_out(tmp_path: Path) -> None:
    """Events that are read again are judged wrongly, and the comparison says so."""
    outcome = await run(tmp_path, pushes=PUSHES, followers=FOLLOWERS, sabotage="revisions")

    assert not outcome.is_clean

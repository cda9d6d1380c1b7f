"""docs/start/moving_over.md, followed after the first sections of docs/start/your_own_application.md."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.docs.walk import RUN_S, Walk
from tests.packaging.environments import build_wheels, constraints
from tests.tools.terminal import free_ports

BEFORE = "docs/start/your_own_application.md"
PAGE = "docs/start/moving_over.md"

pytestmark = pytest.mark.timeout(2 * RUN_S)


@pytest.fixture(name="walk")
async def _walk(tmp_path: Path) -> AsyncIterator[Walk]:
    """A reader whose folder has the files of the page before."""
    wheels = await asyncio.to_thread(build_wheels, tmp_path / "wheels")
    port, folder = free_ports(), tmp_path / "parcels"
    folder.mkdir()
    replacing = {
        "~/beaconfire/dist": str(wheels),
        "beaconfire up ": f"beaconfire up --port {port} ",
        **{f"127.0.0.1:{8080 + offset}": f"127.0.0.1:{port + offset}" for offset in range(4)},
    }
    pinned = str(constraints(tmp_path / "constraints.txt"))
    before = Walk(BEFORE, folder, replacing, PIP_CONSTRAINT=pinned)
    for title in ("1. Install", "2. Describe your events", "3. Say who your users are"):
        await before.section(title)
    walk = Walk(PAGE, folder, replacing)
    yield walk
    await walk.close()


async def test_old_and_new_system_side_by_side_carry_the_same_events_in_the_same_order(
    walk: Walk, tmp_path: Path
) -> None:
    [explained] = await walk.section("1. Describe your events, and 2. accept your tokens")
    checked, imported = await walk.section("3. Import who may see what")
    await walk.section("4. Publish to both")
    received = tmp_path / "parcels" / "new.jsonl"
    async with asyncio.timeout(RUN_S):
        while received.read_text().count("\n") < 3:
            await asyncio.sleep(0.1)
    [compared] = await walk.section("5. Compare both")

    assert "my-ana" in explained
    assert "3" in checked
    assert "3" in imported
    assert compared.splitlines() == [
        "3 events on the old bus, 3 received",
        "missing: none",
        "twice: none",
        "order: the same",
        "There are no dead letters",
    ]
    assert walk.unread() == []

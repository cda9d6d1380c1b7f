"""The checker finds damage: made by hand, and in runs with one safeguard switched off."""

from pathlib import Path

import pytest

from tests.faults.checker import Event, Reload, check
from tests.faults.faults import clients_reset, gateways_replaced
from tests.faults.world import ROOT, World, world

ROOMS = frozenset({ROOT})
STREAM = {offset: Event(f"e{offset}", ROOMS) for offset in range(1, 11)} | {
    11: Event("e11", frozenset({"campaign:c2"}))
}
WHOLE = [(offset, f"e{offset}") for offset in range(1, 11)]


@pytest.mark.parametrize(
    ("applied", "field", "offsets"),
    [
        (WHOLE, "lost", ()),
        (WHOLE[:4] + WHOLE[5:], "lost", (5,)),
        (WHOLE[:-2], "lost", (9, 10)),
        ([*WHOLE, WHOLE[-1]], "twice", (10,)),
        ([WHOLE[1], WHOLE[0], *WHOLE[2:]], "out_of_order", (1,)),
        ([*WHOLE, (11, "e11")], "unexpected", (11,)),
        ([*WHOLE[:-1], (10, "another")], "unexpected", (10,)),
    ],
)
def test_checker_names_each_kind_of_damage_with_its_offsets_and_passes_whole_runs(
    applied: list[tuple[int, str]], field: str, offsets: tuple[int, ...]
) -> None:
    verdict = check(applied, STREAM, rooms=ROOMS, after=0, upto=11)

    assert getattr(verdict, field) == offsets
    assert verdict.is_clean is (not offsets)


def test_checker_does_not_count_announced_gaps_as_silent_losses() -> None:
    verdict = check(WHOLE[:2] + WHOLE[6:], STREAM, rooms=ROOMS, after=0, upto=11, reloads=[Reload(2, 5, "x")])

    assert (verdict.told, verdict.lost) == ((3, 4, 5), (6,))


async def lost(one: World) -> int:
    """How many events were lost in silence, a while after the last one."""
    await one.settle(timeout_s=3)
    return sum(len(verdict.lost) for verdict in (await one.verdicts()).values())


@pytest.mark.timeout(120)
async def test_checker_finds_losses_of_a_gateway_that_ignores_cursors(tmp_path: Path) -> None:
    async with world(tmp_path, gateways=1, sabotage="resume") as one:
        for number in range(4):
            one.follow(f"f{number}")
        await one.everybody_is_there()
        async with one.writing():
            await clients_reset(one, 1)

        assert await lost(one) > 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sabotage", ["holes", "silence"])
async def test_checker_finds_losses_of_a_gateway_without_hole_check_or_silence_probe(
    tmp_path: Path, sabotage: str
) -> None:
    async with world(tmp_path, gateways=1, sabotage=sabotage) as one:
        one.follow("f")
        await one.everybody_is_there()
        await one.publish()
        await one.followers[0].reach(max(one.acknowledged))
        one.routes[0].refusing = True
        one.routes[0].cut()
        for _ in range(20):
            await one.publish()
        one.routes[0].refusing = False
        if sabotage == "holes":
            await one.heard_again()

        assert await lost(one) > 0


@pytest.mark.timeout(120)
async def test_checker_finds_repetitions_of_a_client_that_ignores_its_cursor(tmp_path: Path) -> None:
    async with world(tmp_path, gateways=2) as one:
        for number in range(4):
            one.follow(f"f{number}", keeps_rule=False)
        await one.everybody_is_there()
        async with one.writing(pause_s=0.002):
            await gateways_replaced(one, 2)
        await one.publish()
        await one.settle(timeout_s=10)
        verdicts = await one.verdicts()

    assert sum(len(verdict.twice) for verdict in verdicts.values()) > 0

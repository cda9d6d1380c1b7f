"""The tests' own client keeps the rules of the browser client: PROTOCOL.md §5, make-before-break, `seen`."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client import NotSeen, ResumingClient
from tests.cursors import cursor_of
from tests.faults.world import World, world

ROOM = "campaign:c1"
EXIT_S = 20.0


def _client(one: World) -> ResumingClient:
    one.auth.members["u1"] = {ROOM: "viewer"}
    return ResumingClient([gateway.url for gateway in one.gateways], one.auth.token("u1", ttl_s=3600), [ROOM])


async def test_resuming_client_hears_every_event_once_and_stays_connected_while_gateways_stop_in_turn(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, gateways=2) as one, _client(one).running() as client:
        started_at = cursor_of(client.acks[0]["cursor"]).offset
        stop = asyncio.Event()
        writing = asyncio.create_task(_write(one, stop))
        for gateway in one.gateways:
            gateway.terminate()
            assert await asyncio.to_thread(gateway.process.wait, EXIT_S)
            if gateway is not one.gateways[-1]:
                await asyncio.to_thread(gateway.start)
        stop.set()
        await writing
        await client.seen(await one.publish())

    assert [offset for offset, _ in client.applied] == [each for each in sorted(one.acknowledged) if each > started_at]
    assert client.losses == 0
    assert len(client.acks) >= 2


async def _write(one: World, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await one.publish()
        await asyncio.sleep(0.01)  # the rate


async def test_seen_waits_by_place_and_by_id_across_a_killed_gateway_and_fails_with_a_reason(tmp_path: Path) -> None:
    async with world(tmp_path, gateways=1) as one, _client(one).running() as client:
        offset = await one.publish()
        await client.seen(one.acknowledged[offset])
        await client.seen(str(replace(cursor_of(client.acks[0]["cursor"]), offset=offset)))
        waiting = asyncio.create_task(client.seen(offset + 1))
        one.gateways[0].kill()
        assert await one.publish() == offset + 1
        assert not waiting.done()
        await asyncio.to_thread(one.gateways[0].start)
        await waiting
        with pytest.raises(NotSeen) as late:
            await client.seen("nobody's id", timeout_s=0.01)
        closed = asyncio.create_task(client.seen("another's id"))
        await asyncio.sleep(0)  # it waits
    with pytest.raises(NotSeen) as ended:
        await closed

    assert (late.value.code, ended.value.code) == ("timeout", "closed")
    assert [applied for applied, _ in client.applied] == [offset, offset + 1]

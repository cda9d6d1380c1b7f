"""The Python client where WebSockets, and perhaps streams, are blocked."""

from collections.abc import Set as AbstractSet

from beaconfire_client import State, connect
from tests.clients.python.taking import ROOM, Diary, ids, take
from tests.gateway.conftest import Gateway, settlement
from tests.proxy import Proxy


class Blocking:
    """Has some paths not found, as a proxy that does not know them."""

    def __init__(self) -> None:
        self.paths: AbstractSet[bytes] = frozenset()

    def __call__(self, chunk: bytes) -> bytes:
        for path in self.paths:
            chunk = chunk.replace(b" /" + path + b" ", b" /" + b"-" * len(path) + b" ", 1)
        return chunk


async def test_client_falls_back_from_websockets_over_streams_to_polls_and_returns(gateway: Gateway) -> None:
    """With one cursor: no event is lost or comes twice. A return is no interruption."""
    diary, blocking = Diary(), Blocking()
    blocking.paths = {b"ws"}
    async with (
        Proxy(int(gateway.url.rpartition(":")[2]), rewrite=blocking).running() as front,
        connect(f"http://127.0.0.1:{front.port}", gateway.auth.token("viewer"), on_notice=diary) as client,
    ):
        room = client.room(ROOM)
        await room.ready()
        await gateway.publish(settlement("streamed"))
        heard = await take(room, 1)
        blocking.paths = {b"ws", b"sse"}
        front.cut()
        await diary.until(State.CONNECTING, times=2)
        await gateway.publish(settlement("polled"))
        heard += await take(room, 1)
        await diary.until(State.CONNECTED, transport="poll")
        blocking.paths = frozenset()
        interruptions = len([status for status in diary.states if status.state is State.CONNECTING])
        published = 0
        while client.status.transport != "websocket":
            await gateway.publish(settlement(f"s{published}"))
            published += 1
            heard += await take(room, 1)
        await gateway.publish(settlement("last"))
        heard += await take(room, 1)

    ways = [status.transport for status in diary.states if status.state is State.CONNECTED]
    assert ids(heard) == ["streamed", "polled", *(f"s{number}" for number in range(published)), "last"]
    assert ways == ["sse", "poll", "websocket"]
    assert len([status for status in diary.states if status.state is State.CONNECTING]) == interruptions

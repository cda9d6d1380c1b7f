"""What is cut out of a socket read here, and what is left to nats-py. The client itself: `test_direct_client`."""

import pytest
from nats.errors import ProtocolError

from services.gateway.direct import DirectClient

HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"
LENGTH = len(HEADERS)
STREAM = (
    b"MSG live.a 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG live.b 1 reply.to 2\r\n\r\n\r\n"  # a body that looks like the end of one
    b"HMSG live.c 1 %d %d\r\n%sbody\r\n"
    b"MSG _INBOX.x 2 3\r\nxyz\r\n"
    b"HMSG live.d 1 reply.to %d %d\r\n%sMSG live.e 1 1\r\n\r\n"  # one that looks like a message
    b"PONG\r\n"
    b"HMSG _INBOX.x 2 %d %d\r\n%s\r\n"
    b"MSG live.f 1 0\r\n\r\n"
) % (LENGTH, LENGTH + 4, HEADERS, LENGTH, LENGTH + 16, HEADERS, LENGTH, LENGTH, HEADERS)
TAKEN = [
    (b"live.a", b"", b"hello", None),
    "ping",
    (b"live.b", b"reply.to", b"\r\n", None),
    (b"live.c", b"", b"body", HEADERS),
    (2, b"_INBOX.x", b"", b"xyz", None),
    (b"live.d", b"reply.to", b"MSG live.e 1 1\r\n", HEADERS),
    "pong",
    (2, b"_INBOX.x", b"", b"", HEADERS),
    (b"live.f", b"", b"", None),
]


class Ear(DirectClient):
    """A client without a connection, and everything its parser took, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[object] = []
        self._direct[b"1"] = lambda *message: self.taken.append(message)

    async def _process_msg(self, *message: object) -> None:
        self.taken.append(message)

    async def _process_ping(self) -> None:
        self.taken.append("ping")

    async def _process_pong(self) -> None:
        self.taken.append("pong")


async def test_wherever_the_network_cuts() -> None:
    """Each message is taken whole and in order, ours and nats-py's, whatever part of it a socket read brings."""
    for size in [*range(1, 40), len(STREAM)]:
        ear = Ear()
        for start in range(0, len(STREAM), size):
            await ear._ps.parse(STREAM[start : start + size])

        assert ear.taken == TAKEN, size


async def test_large_message() -> None:
    """One that comes in many reads is put together once."""
    ear = Ear()
    body = bytes(range(256)) * 4096
    message = b"MSG live.a 1 %d\r\n%s\r\nPING\r\n" % (len(body), body)
    for start in range(0, len(message), 32768):
        await ear._ps.parse(message[start : start + 32768])

    assert ear.taken == [(b"live.a", b"", body, None), "ping"]


async def test_another_connection() -> None:
    """The part of a message that a lost connection brought does not mix with what the next one brings."""
    ear = Ear()
    await ear._ps.parse(b"MSG live.a 1 5\r\nhe")
    ear._ps.reset()
    await ear._ps.parse(b"MSG live.a 1 5\r\nhello\r\n")

    assert ear.taken == [(b"live.a", b"", b"hello", None)]


@pytest.mark.parametrize("line", [b"MSG live.a 1 x\r\n", b"MSG\r\n", b"HMSG live.a 1 5\r\n", b"NONSENSE\r\n"])
async def test_nonsense(line: bytes) -> None:
    """What the broker never says is for nats-py to refuse, which then connects anew."""
    ear = Ear()
    with pytest.raises(ProtocolError):
        await ear._ps.parse(line + b"hello\r\n")

    assert ear.taken == []

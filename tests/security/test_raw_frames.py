"""T12: raw frames beyond the groups of `test_autobahn_groups`, and what they cost the process."""

import asyncio
import os
import zlib

import pytest

from beaconfire_gateway.transports.any_websocket import CONTROL_PER_MINUTE
from beaconfire_gateway.wire.websocket_frames import MAX_FRAGMENTS, Opcode, encode
from tests.security.conftest import Target, hears, rss_bytes
from tests.websocket import client_frame, connection, handshake

HUGE = b"\x81\xff" + (2**62).to_bytes(8, "big") + b"mask" + b"x" * 1000
TOP_BIT = b"\x81\xff" + (2**63 + 1).to_bytes(8, "big") + b"mask"
BOMB = zlib.compress(b"\0" * 10_000_000)[2:-4]
ATTACKS = {
    "a length of 2^62": (HUGE, {4413}),
    "a length with its top bit set": (TOP_BIT, {1002, 4413}),
    "a fragment of 2^62": (client_frame(b"a", final=False) + b"\x80" + HUGE[1:], {4413}),
    "empty fragments without end": (client_frame(b"", final=False) + client_frame(b"", 0, final=False) * 5_000, {4413}),
    "fragments of a byte": (client_frame(b"a", final=False) + client_frame(b"a", 0, final=False) * 5_000, {4413}),
    "a flood of pings": (client_frame(b"x" * 125, Opcode.PING) * (CONTROL_PER_MINUTE + 1), {4429}),
    "a flood of pongs": (client_frame(b"x" * 125, Opcode.PONG) * (CONTROL_PER_MINUTE + 1), {4429}),
    "unmasked text": (encode(b"{}"), {1002}),
    "unmasked ping": (encode(b"", Opcode.PING), {1002}),
    "unmasked close": (encode(b"\x03\xe8", Opcode.CLOSE), {1002}),
    "a deflate bomb": (client_frame(BOMB[:16_000], rsv=0x40), {1002}),
    "bad UTF-8": (client_frame(b"\xff"), {1007}),
    "bad UTF-8 across fragments": (client_frame(b"\xe2", final=False) + client_frame(b"\x28\xa1", 0), {1007}),
    "UTF-8 cut off": (client_frame(b"\xe2\x82"), {1007}),
    "noise": (bytes([0x8F]) + os.urandom(4_000), {1002}),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_hostile_frames_are_closed_with_their_code_and_cost_nothing(target: Target, attack: str) -> None:
    """T12: the process lives, does not grow, and other clients hear their events."""
    data, codes = ATTACKS[attack]
    before = rss_bytes(target.gateway)
    async with target.client(target.owner, target.room) as client:
        for _ in range(3):
            async with target.wire() as raw:
                raw.write(data)
                assert await raw.close_code() in codes
        await hears(target, client)

    assert rss_bytes(target.gateway) - before < 10 * 1024 * 1024


async def test_compression_is_not_negotiated_as_shipped(target: Target) -> None:
    """T12: there is nothing that could be inflated."""
    offer = "permessage-deflate; client_max_window_bits"
    async with connection(target.gateway.url) as raw:
        raw.write(handshake(target.gateway.url, Sec_WebSocket_Extensions=offer))
        async with asyncio.timeout(10):
            head = await raw.reader.readuntil(b"\r\n\r\n")
        raw.write(client_frame(b"", Opcode.PING))
        answered = await raw.frame()

    assert b"extensions" not in head.lower()
    assert answered == (Opcode.PONG, b"")


async def test_message_with_one_fragment_more_than_allowed_is_refused(target: Target) -> None:
    """T12: a message with as many as allowed is read."""
    parts = [b'{"type":"ping","id":1,"pad":"'] + [b"x"] * (MAX_FRAGMENTS - 2) + [b'"}']
    frames = [client_frame(part, 0 if index else 1, final=index == len(parts) - 1) for index, part in enumerate(parts)]
    async with target.wire() as raw:
        raw.write(b"".join(frames))
        opcode, payload = await raw.frame()

    assert (opcode, b'"reply"' in payload) == (Opcode.TEXT, True)

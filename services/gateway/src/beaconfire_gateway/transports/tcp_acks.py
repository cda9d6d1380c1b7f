"""Whether the other end of a TCP connection is still there, for protocols whose clients cannot answer a ping."""

import socket
import struct
import time

_UNACKED, _LAST_ACK = 24, 56
"""Offsets in `struct tcp_info` of Linux (linux/tcp.h): packets that are not acknowledged, and the age of the last
acknowledgement in milliseconds."""
_SIZE = 60
_GRAIN_S = 0.02
"""The age of an acknowledgement may be this much too small: the kernel counts in its own ticks."""


def acknowledges(end: socket.socket, since: float) -> bool:
    """Whether everything that was sent is acknowledged, or anything was `since` (`time.monotonic`).

    True if the system does not say: the connection is then ended by TCP itself, which takes minutes.
    """
    if end.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "TCP_INFO"):
        return True
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    if len(info) < _SIZE:
        return True
    unacked, last_ack_ms = (struct.unpack_from("=I", info, offset)[0] for offset in (_UNACKED, _LAST_ACK))
    return bool(unacked == 0 or last_ack_ms / 1000 + _GRAIN_S < time.monotonic() - since)

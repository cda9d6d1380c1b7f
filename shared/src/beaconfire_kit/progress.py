"""Whether a durable consumer makes progress."""

import time

from nats.js.api import ConsumerInfo

STUCK_S = 10.0
"""A consumer is stuck if it has messages and acknowledged none for this long. Then its service is not ready."""


class Progress:
    """Notice when a durable consumer makes no progress. Call `why_stuck` about once a second."""

    def __init__(self, name: str, *, stuck_s: float = STUCK_S) -> None:
        self._name = name
        self._stuck_s = stuck_s
        self._floor = -1
        self._moved_at = 0.0

    def why_stuck(self, info: ConsumerInfo) -> str | None:
        """Return which consumer makes no progress, and at which message. None if it progresses or has none."""
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        waiting = (info.num_pending or 0) + (info.num_ack_pending or 0)
        now = time.monotonic()
        if floor != self._floor or not waiting:
            self._floor, self._moved_at = floor, now
        still_s = now - self._moved_at
        if still_s < self._stuck_s:
            return None
        # If one message is pending, it is the last one delivered.
        at = info.delivered.stream_seq if info.num_ack_pending == 1 and info.delivered else None
        which = f"message {at}" if at is not None else f"the first message after {floor}"
        return f"the consumer {self._name} has made no progress for {still_s:.0f} s: it does not get past {which}"

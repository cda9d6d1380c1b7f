"""nats-py, with messages handed to a plain function straight from its parser.

nats-py puts each message into a queue and wakes a task: 14-18 µs, and the messages of one socket read are spread over
many loop turns. Called from the parser it is 5-8 µs, and they stay in one turn, where their frames join. This leans on
two private names of nats-py, `_process_msg` and `_sid`; `tests/gateway/test_direct.py` fails loudly when a release
changes them. Everything else (reconnecting, resubscribing, requests) stays nats-py's.
"""

from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from shared import logs

log = logs.get(__name__)

Direct = Callable[[bytes, bytes, bytes, bytes | None], None]
"""(subject, reply, body, raw headers or None). Cannot wait."""


class DirectClient(Client):
    """A NATS client with subscriptions that are plain function calls."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, Direct] = {}

    async def subscribe_direct(self, subject: str, callback: Direct) -> Subscription:
        """Subscribe; `callback` is called for each message, in order, before the next one is parsed."""
        sid = self._sid + 1  # the one `subscribe` is about to take; it does so before its first await
        self._direct[sid] = callback
        subscription = await self.subscribe(subject)
        assert subscription._id == sid, "nats-py no longer numbers subscriptions as DirectClient expects"
        return subscription

    async def unsubscribe_direct(self, subscription: Subscription) -> None:
        """Undo `subscribe_direct`. Messages already on their way are dropped."""
        self._direct.pop(subscription._id, None)
        await subscription.unsubscribe()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        callback = self._direct.get(sid)
        if callback is None:
            await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type]
            return
        try:
            callback(subject, reply, data, headers)
        except Exception:
            # Out of here it would end nats-py's read loop, and the connection with it.
            log.exception("a message could not be taken in")

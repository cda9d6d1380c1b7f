"""Subscriptions to the broker that are plain function calls, straight from the bytes of one socket read.

Everything else stays nats-py's: connecting and reconnecting, resubscribing, requests and their answers.

This leans on two private names of nats-py, the numbers of subscriptions: `Client._sid` and `Subscription._id`.
tests/kit/seams/test_nats_direct.py fails when a release changes them.
"""

from nats.aio.subscription import Subscription

from beaconfire_kit.seams.nats_connection import Connection
from beaconfire_kit.seams.nats_parser import Direct


class DirectClient(Connection):
    """A connection to the broker that can call a plain function for each message of a subscription."""

    async def subscribe_direct(self, subject: str, callback: Direct) -> Subscription:
        """Subscribe. `callback` is called for each message, in order, before the next message is parsed."""
        sid = self._sid + 1  # the number that `subscribe` is about to use; it takes it before its first await
        self._direct[b"%d" % sid] = callback
        subscription = await self.subscribe(subject)
        assert subscription._id == sid, "nats-py no longer numbers subscriptions as DirectClient expects"
        return subscription

    async def unsubscribe_direct(self, subscription: Subscription) -> None:
        """Undo `subscribe_direct`. Messages that are on their way are dropped."""
        self._direct.pop(b"%d" % subscription._id, None)
        await subscription.unsubscribe()

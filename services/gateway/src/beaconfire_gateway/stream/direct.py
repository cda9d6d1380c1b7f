"""A NATS client whose messages go to a plain function, straight from the bytes of one socket read.

How they are cut out is in `beaconfire_kit/parsing.py`. Everything else stays nats-py's: connecting and reconnecting,
resubscribing, requests and their answers. This leans on one more private name of nats-py, `_sid`;
`test_direct_client` fails loudly when a release changes it.
"""

from nats.aio.subscription import Subscription

from beaconfire_kit.broker import Connection
from beaconfire_kit.parsing import Direct


class DirectClient(Connection):
    """A NATS client with subscriptions that are plain function calls."""

    async def subscribe_direct(self, subject: str, callback: Direct) -> Subscription:
        """Subscribe; `callback` is called for each message, in order, before the next one is parsed."""
        sid = self._sid + 1  # the one `subscribe` is about to take; it does so before its first await
        self._direct[b"%d" % sid] = callback
        subscription = await self.subscribe(subject)
        assert subscription._id == sid, "nats-py no longer numbers subscriptions as DirectClient expects"
        return subscription

    async def unsubscribe_direct(self, subscription: Subscription) -> None:
        """Undo `subscribe_direct`. Messages already on their way are dropped."""
        self._direct.pop(b"%d" % subscription._id, None)
        await subscription.unsubscribe()

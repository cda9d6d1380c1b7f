"""nats-py, with messages handed to a plain function straight from the bytes of one socket read.

nats-py puts each message into a queue and wakes a task: 14-18 µs, and the messages of one read are spread over many
turns of the loop. Here a message of a direct subscription is cut out of the read and its function called: 1 µs, and
they stay in one turn, where their frames join. Everything else, byte for byte, goes to nats-py's own parser: connecting
and reconnecting, resubscribing, requests and their answers stay its.

This leans on private names of nats-py: `_ps` (the parser that its read loop feeds, `parse` and `reset`) and `_sid`;
`test_direct_client` fails loudly when a release changes them.
"""

from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser

from shared import logs
from shared.broker import Connection

log = logs.get(__name__)

Direct = Callable[[bytes, bytes, bytes, bytes | None], None]
"""(subject, reply, body, raw headers or None). Cannot wait."""

_WORDS = {b"MSG": 4, b"HMSG": 5}
"""Words of a message's line: `MSG <subject> <id> [reply] <bytes>`, HMSG with `<bytes of headers>` before the last."""


class DirectParser(Parser):
    """Hands messages of `direct` subscriptions (by id, as on the wire) to their functions, the rest to nats-py."""

    def __init__(self, nc: Client, direct: dict[bytes, Direct]) -> None:
        self._direct = direct
        super().__init__(nc)

    def reset(self) -> None:
        """Forget a message of which only a part came: the connection is another one."""
        super().reset()
        self._rest = bytearray()
        self._wanted = 0  # bytes without which `_rest` is no whole message

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read from the socket, in order. Raises ProtocolError as nats-py's parser does."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        position = 0
        while position < len(data):
            position, other = self._take(data, position)
            if other is None:
                self._rest += data[position:]
                return
            await super().parse(other)

    def _take(self, data: bytes, position: int) -> tuple[int, bytes | None]:
        """Call for the messages from `position` on, up to something that is nats-py's.

        Returns where to go on, and that piece; None at the end, or where the next one is not whole.
        """
        find, direct = data.find, self._direct
        while (line := find(b"\r\n", position)) >= 0:
            words = data[position:line].split()
            start = end = line + 2
            least = _WORDS.get(words[0]) if words else None
            if least is not None:
                try:
                    end += int(words[-1]) + 2
                    body = start + int(words[-2]) if least == 5 else start
                except ValueError:
                    least = len(words) + 1
                if not least <= len(words) <= least + 1:
                    return len(data), data[position:]  # nats-py says what is wrong
                if end > len(data):
                    self._wanted = end - position
                    return position, None
                callback = direct.get(words[2])
                if callback is not None:
                    reply = words[3] if len(words) > least else b""
                    try:
                        callback(words[1], reply, data[body : end - 2], data[start:body] or None)
                    except Exception:
                        # Out of here it would end nats-py's read loop, and the connection with it.
                        log.exception("a message could not be taken in")
                    position = end
                    continue
            return end, data[position:end]
        self._wanted = 0
        return position, None


class DirectClient(Connection):
    """A NATS client with subscriptions that are plain function calls."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[bytes, Direct] = {}
        self._ps = DirectParser(self, self._direct)

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

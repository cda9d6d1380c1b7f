"""The connection to the broker: nats-py's client, with the faults repaired that would lose events or hang a service.

This leans on private names of nats-py's `Client`:

* the buffer of pending bytes (`_pending`, `_pending_data_size`, `_flush_pending`)
* requests (`_resp_map`, `_resp_sub_prefix`, `_max_payload`) and PINGs (`_pongs`)
* the parser (`_ps`), the socket (`_transport`, with its `_io_writer`) and the server's INFO (`_server_info`)
* what a lost connection calls (`_process_op_err`, `_error_cb`)
* methods that are replaced: `_process_headers`, `_process_err`, `_attempt_reconnect`, `_send_ping`,
  `_connect_to_server`

tests/kit/seams/test_nats_connection.py fails when a release changes them.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import nats.errors
from nats.aio.client import PING_PROTO, Client, Srv

from beaconfire_kit.name_lookup import NameLookup
from beaconfire_kit.seams.nats_parser import Direct, MessageParser

_HEADERS_BYTES = 12
"""Length of a header block without headers: `NATS/1.0` and two line ends."""
_DENIED = re.compile(rb"-ERR\s+'Permissions Violation for Publish to \"([^\"]*)\"'", re.IGNORECASE)

_NOT_ACCEPTED = "authorization violation"


class PublishDenied(nats.errors.Error):
    """The broker's permissions do not let this user publish on that subject."""


class Connection(Client):
    """nats-py's client, with six differences. All our connections use it.

    * It leaves a server that hangs.
    * After its `flush`, the server has processed everything that was sent before.
    * No message can end it (`beaconfire_kit/seams/nats_parser.py`).
    * A changed password does not end it. nats-py closes for good if the server refuses a user that was connected.
    * A request on a subject on which this user may not publish raises PublishDenied at once, and so does
      `publish_and_wait`. nats-py only reports the
      server's `-ERR` to a callback, so the request would wait for its whole timeout.
    * If no name server answers for the broker's name, other clients of the process still find theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[bytes, Direct] = {}
        self._ps = MessageParser(self, self._direct)
        self._asked: dict[str, set[asyncio.Future[Any]]] = {}
        self.names = NameLookup()
        self.rest_s: Callable[[], float] = lambda: 0.0
        """Asked after each read: for how many seconds nothing is to be read or parsed. The server's bytes wait then."""

    async def _process_headers(self, headers: Any) -> Any:
        """Return the headers as they are: `MessageParser` has read them, and never hands over the raw block."""
        return headers

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Mapping[str, Any] | None = None
    ) -> None:
        """Publish a message.

        Raises MaxPayloadError also if only the headers make the message too large. The server would answer such a
        message by closing the connection for good.
        """
        if headers and len(payload) + _size(headers) > self._max_payload:
            raise nats.errors.MaxPayloadError
        if reply and (asked := self._resp_map.get(reply[len(self._resp_sub_prefix or b"") :])) is not None:
            self._asked.setdefault(subject, set()).add(asked)
            asked.add_done_callback(partial(self._answered, subject))
        await super().publish(subject, payload, reply, dict(headers) if headers else None)

    async def publish_and_wait(self, subject: str, payload: bytes, *, timeout_s: float) -> None:
        """Publish a message without a reply, and wait until the server has processed it.

        Raises PublishDenied if this user may not publish there, and nats.errors.TimeoutError.
        """
        denied: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(subject, set()).add(denied)
        try:
            await self.publish(subject, payload)
            if not await self.answers(timeout_s):
                raise nats.errors.TimeoutError
            if (error := denied.exception() if denied.done() else None) is not None:
                raise error
        finally:
            self._answered(subject, denied)

    def _answered(self, subject: str, asked: asyncio.Future[Any]) -> None:
        waiting = self._asked.get(subject, set())
        waiting.discard(asked)
        if not waiting:
            self._asked.pop(subject, None)

    async def _process_err(self, err_msg: str) -> None:
        """Fail the requests that wait on a subject that the server denies. Reconnect if it does not accept us any more.

        nats-py passes the error on in lower case. Subjects are case-sensitive, so the subject is read from the buffer.
        """
        if _NOT_ACCEPTED in err_msg and self.is_connected:
            await self._error_cb(nats.errors.AuthorizationError())
            await self._process_op_err(nats.errors.AuthorizationError())
            return
        if denied := _DENIED.match(self._ps.buf):
            subject = denied[1].decode(errors="replace")
            for asked in list(self._asked.get(subject, ())):
                if not asked.done():
                    asked.set_exception(PublishDenied(f"this user may not publish on {subject}"))
        await super()._process_err(err_msg)

    async def _attempt_reconnect(self) -> None:
        """Reconnect, even if something is left to send to a server that hangs.

        nats-py waits until that is sent before it tries another server, so it would wait forever for one that does not
        read. The remaining data is dropped, not sent to the next server. An event may have waited in the buffer while
        its process was frozen. Another process may have sent it since, and the broker may have forgotten its id. Then
        the event would be stored twice.
        """
        abort(self)
        self._pending, self._pending_data_size = [], 0
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Srv) -> None:
        """Connect to a server if its name is found."""
        if s.uri.hostname is not None:
            timeout_s = self.options["connect_timeout"]
            await self.names.check(s.uri.hostname, s.uri.port or 0, timeout_s=timeout_s)
        await super()._connect_to_server(s)

    async def answers(self, timeout_s: float) -> bool:
        """Return whether the server answers a PING in time.

        `flush` cannot be used for it: a PONG that arrives after its timeout ends nats-py's read loop and the
        connection.
        """
        pong = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._send_ping(pong)
                await asyncio.wait((pong,))
        except (TimeoutError, nats.errors.Error, OSError):
            return False
        return not pong.cancelled() and pong.exception() is None

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Send a PING behind everything that was sent before.

        nats-py's own PING overtakes what is still in its buffer. The server could answer a `flush` before it has seen
        the subscription that was made before it.
        """
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        self._pending.append(PING_PROTO)
        self._pending_data_size += len(PING_PROTO)
        await self._flush_pending()


def abort(nc: Client) -> None:
    """Close the connection's socket at once and drop what was not sent yet.

    nats-py leaves its socket open if its last write failed, or if it is still connecting.
    """
    writer: asyncio.StreamWriter | None = getattr(nc._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def server_info(nc: Client) -> dict[str, Any]:
    """Return what the server said about itself in INFO (version, cluster, JetStream, …)."""
    return dict(nc._server_info)


def _size(headers: Mapping[str, Any]) -> int:
    return _HEADERS_BYTES + sum(len(name) + len(str(value).encode()) + 4 for name, value in headers.items())

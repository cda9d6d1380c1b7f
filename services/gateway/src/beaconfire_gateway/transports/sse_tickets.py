"""Tickets for a browser's own `EventSource`, which can send no token (ADR 0051).

    POST /sse/tickets                 the ticket, for 30 s
    GET  /sse/stream?ticket=…         its first use sets a cookie
    GET  /sse/stream?ticket=…         any later one needs that cookie, until the token ends

A ticket is the key of a record in the bucket `SSE_TICKETS`, so any gateway can redeem it. The record is sealed with the
ticket itself, so that the bucket reveals no token. The first use writes the record again, with the hash of the cookie,
if nothing was written since it was read: of two uses at the same moment, one is refused.
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from cryptography.fernet import Fernet
from nats.aio.client import Client

from beaconfire_gateway.transports.wanted import Wanted
from beaconfire_kit import errors, logs
from beaconfire_kit.broker import WrongSequence
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.gateway_buckets import BROKER_FAILURES, BUCKETS, CALLS_AT_ONCE, SSE_TICKETS, broker_start
from beaconfire_kit.key_value import BucketMissing, KeyValue

log = logs.get(__name__)

TICKET_S = 30
"""The time from a ticket to its first use. A page uses it at once."""
ANSWER_S = 5.0
"""The longest that a client waits for the broker."""
COOKIE_PREFIX = "beaconfire_sse_"
MAX_COOKIES = 20
"""A browser keeps so many of these cookies. It sends all of them with each stream, and a gateway reads 8 KiB."""
_SECRET_BYTES = 24
_TICKET_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Page:
    """The page that gets a ticket, as far as its cookie depends on it."""

    origin: str
    """Empty if it is no browser."""
    is_own: bool
    """Whether the gateway has the same origin."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a ticket stands for."""

    token: str
    wanted: Wanted
    ends_at: float
    """When the token ends (`time.time`)."""
    page: Page

    def encode(self) -> bytes:
        fields = {
            "token": self.token,
            "wanted": self.wanted.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "endsAt": self.ends_at,
            "origin": self.page.origin,
            "isOwn": self.page.is_own,
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Subscription":
        fields = json.loads(data)
        wanted = Wanted.model_validate_json(json.dumps(fields["wanted"]), by_name=False, by_alias=True)
        return cls(fields["token"], wanted, fields["endsAt"], Page(fields["origin"], fields["isOwn"]))

    @property
    def left_s(self) -> int:
        """For how many seconds its token, and therefore its cookie, is still good."""
        return max(1, min(int(self.ends_at - time.time()), BUCKETS[SSE_TICKETS].kept_s))


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A ticket that was good. `cookies` are the values of `Set-Cookie`."""

    subscription: Subscription
    cookies: tuple[str, ...] = ()


class Tickets:
    """Issues tickets and redeems them. `ticket_s` is how long one waits for its first use."""

    def __init__(self, nc: Client, *, ticket_s: int = TICKET_S) -> None:
        self._nc = nc
        self._bucket = KeyValue(nc, SSE_TICKETS)
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)
        self.ticket_s = ticket_s

    async def issue(self, subscription: Subscription) -> str:
        """Return a ticket. Raises BeaconfireError."""
        ticket = secrets.token_urlsafe(_SECRET_BYTES)
        record = _Record(_seal(ticket, subscription.encode()), broker=broker_start(self._nc)).encode()
        if len(record) > BUCKETS[SSE_TICKETS].max_record_bytes:
            raise BeaconfireError(errors.TOO_LARGE, "the token, the rooms and the types are too long for one ticket")
        async with self._asking():
            await self._bucket.last(_key(ticket))  # a write would wait for a missing bucket, and this says so at once
            await self._bucket.put(_key(ticket), record, after=0, kept_s=self.ticket_s)
        return ticket

    async def redeem(self, ticket: str, cookies: Mapping[str, str]) -> Redeemed:
        """Return what a ticket stands for. Raises BeaconfireError: it is no ticket, it is used up, or its cookie is
        missing.
        """
        if len(ticket) != _TICKET_CHARACTERS:
            raise _no_ticket()
        key = _key(ticket)
        name = f"{COOKIE_PREFIX}{key[:12]}"
        async with self._asking():
            last = await self._bucket.last(key)
            if last is None or last.deleted:
                raise _no_ticket()
            record = _Record.decode(last.value)
            subscription = Subscription.decode(_open(ticket, record.sealed))
            if record.used_by:
                if not secrets.compare_digest(_hash(cookies.get(name, "")), record.used_by):
                    raise _no_ticket()
                return Redeemed(subscription)
            if record.broker != broker_start(self._nc):
                raise _no_ticket()  # it may have been used: a broker that crashes forgets the last writes
            cookie = secrets.token_urlsafe(_SECRET_BYTES)
            used = _Record(record.sealed, used_by=_hash(cookie)).encode()
            try:
                await self._bucket.put(key, used, after=last.at, kept_s=subscription.left_s)
            except WrongSequence:
                raise _no_ticket() from None
        return Redeemed(subscription, (_cookie(name, cookie, subscription), *_expired(cookies)))

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Ask the broker in this block. Raises BeaconfireError if it does not answer, or has no bucket."""
        try:
            async with asyncio.timeout(ANSWER_S), self._calls:
                yield
        except BucketMissing as missing:
            log.warning("there are no tickets for event streams", problem=str(missing))
            text = f"tickets need the bucket {SSE_TICKETS}: run `beaconfire setup` for this deployment"
            raise BeaconfireError(errors.UNAVAILABLE, text) from None
        except BROKER_FAILURES as problem:
            log.warning("could not ask for a ticket", problem=type(problem).__name__)
            text = "tickets cannot be stored or read now, try again"
            raise BeaconfireError(errors.UNAVAILABLE, text, retry_after_ms=1000) from None


@dataclass(frozen=True, slots=True)
class _Record:
    """What is in the bucket."""

    sealed: str
    used_by: str = ""
    """The hash of the cookie of its first use; empty before."""
    broker: str = ""
    """Which start of the broker stored it before its first use (`broker_start`)."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "_Record":
        return cls(**json.loads(data))


def _no_ticket() -> BeaconfireError:
    text = "the ticket was used before, or is too old: POST /sse/tickets gives another"
    return BeaconfireError(errors.TOKEN_INVALID, text)


def _key(ticket: str) -> str:
    """The key of a ticket's record. It reveals neither the ticket nor what opens the record."""
    return _hash(f"key {ticket}")[:32]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()  # a cookie may have bytes that are no UTF-8


def _fernet(ticket: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(f"seal {ticket}".encode()).digest()))


def _seal(ticket: str, data: bytes) -> str:
    return _fernet(ticket).encrypt(data).decode()


def _open(ticket: str, sealed: str) -> bytes:
    return _fernet(ticket).decrypt(sealed)


_is_ours = re.compile(rf"{COOKIE_PREFIX}[0-9a-f]{{12}}").fullmatch


def _cookie(name: str, value: str, subscription: Subscription) -> str:
    """The value of `Set-Cookie`. It has no path, so the browser sends it to the folder of the stream's address only.

    A page of another origin gets a cookie that is sent with requests from other sites. Browsers take such a cookie only
    over TLS, and the page's own address shows whether there is TLS.
    """
    page = subscription.page
    is_secure = page.origin.startswith("https://")
    if page.is_own or not page.origin:
        site = "SameSite=Strict"
    else:
        site = "SameSite=None; Partitioned" if is_secure else "SameSite=Lax"
    secure = "; Secure" if is_secure else ""
    return f"{name}={value}; Max-Age={subscription.left_s}; HttpOnly; {site}{secure}"


def _expired(cookies: Mapping[str, str]) -> Iterator[str]:
    """The values of `Set-Cookie` that remove the oldest cookies of tickets, if there are many."""
    ours = [name for name in cookies if _is_ours(name)]
    return (f"{name}=; Max-Age=0; HttpOnly" for name in ours[: max(0, len(ours) + 1 - MAX_COOKIES)])

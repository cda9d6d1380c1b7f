"""Send an event to any set of rooms, users and sessions, with a service token, over NATS or HTTP.

    sender = NatsSender(nc, token=service_token)
    sender = HttpSender(http, "https://publisher.example", token=service_token)

    await sender.send("notice", {"text": "Back in 5 minutes"}, to=["workspace:w1", "workspace:w2/team:m1"])
    await sender.send("notice", {"text": "Saved"}, to=[session_room("u1", session_id)])

The event is ephemeral: it reaches the sessions that are connected now, once each, and nothing stores it. An event that
nobody may miss is published instead (`publishing`). The type must be ephemeral in the catalogue.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Protocol, TypedDict, Unpack

import aiohttp
import nats.errors
from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.fetching import FetchFailed, post
from beaconfire_kit.roles import Role

SENDING_QUEUE = "publisher-senders"
"""The publisher's processes share the requests."""
HTTP_PATH = "/v1/send"
TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024


class NotSent(Exception):
    """The event was refused, or it is not known whether it was sent. The text contains the reason.

    `is_temporary` says whether the same call may succeed later.
    """

    def __init__(self, reason: str, *, is_temporary: bool = False) -> None:
        super().__init__(reason)
        self.is_temporary = is_temporary


class About(TypedDict):
    """The last arguments of `send`."""

    version: NotRequired[int]
    """The version of the type, 1 if it is left out."""
    user_id: NotRequired[str]
    """The user who caused the event."""
    correlation_id: NotRequired[str]
    audience: NotRequired[Sequence[Role]]
    """The roles that may see it. Without it, every member."""
    id: NotRequired[str]
    """The event's id, a random one if it is left out."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The publisher has given the event to the gateways."""

    id: str
    rooms: int
    """How many rooms and sessions it was sent to. Some may have no connected client."""


class Sender(Protocol):
    """Sends events. Does not repeat: a repeat could reach a session twice."""

    async def send(self, type_: str, payload: Mapping[str, Any], *, to: Sequence[str], **about: Unpack[About]) -> Sent:
        """Send an event to these rooms, up to 100. Raises NotSent.

        A room is named as `workspace:w1` or `workspace:w1/team:m1`. The sessions in the room `user:u1` are those of a
        user that joined it. `sent_events.session_room` names one session, whatever rooms it is in.
        """


class NatsSender:
    """Sends by a request to the publisher, over the broker."""

    def __init__(self, nc: Client, *, token: str, timeout_s: float = TIMEOUT_S) -> None:
        """`token` is a service token, whose service is the source of the events."""
        self._nc = nc
        self._token = token
        self._timeout_s = timeout_s

    async def send(self, type_: str, payload: Mapping[str, Any], *, to: Sequence[str], **about: Unpack[About]) -> Sent:
        asked = json.dumps({"serviceToken": self._token, **_given(type_, payload, to, about)}).encode()
        try:
            answer = await self._nc.request(broker.SEND, asked, timeout=self._timeout_s)
        except nats.errors.NoRespondersError:
            raise NotSent("no publisher listens on the broker", is_temporary=True) from None
        except nats.errors.Error as error:
            raise NotSent(f"the publisher did not answer: {error}", is_temporary=True) from error
        return _read(answer.data)


class HttpSender:
    """Sends over `POST /v1/send` of the publisher service."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, token: str, timeout_s: float = TIMEOUT_S) -> None:
        """`url` is the publisher's address. `token` is a service token, whose service is the source of the events."""
        self._http = http
        self._url = url.rstrip("/") + HTTP_PATH
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._timeout_s = timeout_s

    async def send(self, type_: str, payload: Mapping[str, Any], *, to: Sequence[str], **about: Unpack[About]) -> Sent:
        try:
            answer = await post(
                self._http,
                self._url,
                json.dumps(_given(type_, payload, to, about)),
                headers=self._headers,
                max_bytes=MAX_ANSWER_BYTES,
                timeout_s=self._timeout_s,
            )
        except FetchFailed as error:
            raise NotSent(f"the publisher did not answer: {error}", is_temporary=True) from error
        return _read(answer.body)


def _given(type_: str, payload: Mapping[str, Any], to: Sequence[str], about: About) -> Mapping[str, Any]:
    """Return what both ways send."""
    metadata = {
        "userId": about.get("user_id"),
        "correlationId": about.get("correlation_id"),
        "audience": about.get("audience"),
    }
    said = {"type": type_, "version": about.get("version", 1), "payload": payload, "to": list(to)}
    if "id" in about:
        said["id"] = about["id"]
    return {**said, "metadata": {name: value for name, value in metadata.items() if value is not None}}


def _read(answer: bytes) -> Sent:
    try:
        said = json.loads(answer)
        if "error" not in said:
            return Sent(str(said["id"]), int(said["rooms"]))
        error = said["error"]
        reason, is_temporary = str(error["message"]), error["code"] in _TEMPORARY
    except (ValueError, KeyError, TypeError):
        raise NotSent("the answer is not the publisher's: check the address", is_temporary=False) from None
    raise NotSent(f"the publisher refused the event: {reason}", is_temporary=is_temporary)


_TEMPORARY = frozenset({"unavailable", "broker_unavailable", "too_many", "timeout", "internal"})
"""Codes of errors after which the same call may succeed."""

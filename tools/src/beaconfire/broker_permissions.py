"""Compare what each broker user may do with what it must be able to do.

Each user asks the broker what it may do, so nothing forbidden is tried, and the broker's log stays clean.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client

from beaconfire.broker_users import USER_INFO, BrokerUser, Publisher, users
from beaconfire.diagnosis import LoginProbe
from beaconfire_kit.broker import CATALOGUE, GATEWAY_PREFIX, LIVE_PREFIX, PRESENCE_PREFIX
from beaconfire_kit.catalogue_store import BUCKET
from beaconfire_kit.gateway_buckets import BUCKETS

LIVE = f"{LIVE_PREFIX}>"
GATEWAY = "gateway"
_PUSHERS = ("setup", "catalogue")
_MEMBERS = "campaign.doctor.member.doctor"
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "push a catalogue": (CATALOGUE, f"$KV.{BUCKET}.>"),
    "write records of gateways": tuple(
        subject for one in BUCKETS.values() for subject in (f"$KV.{one.name}.>", f"$JS.API.STREAM.MSG.GET.{one.stream}")
    ),
    "ask gateways": (f"{GATEWAY_PREFIX}>",),
    "say who is present": (f"{PRESENCE_PREFIX}>",),
}
"""Actions that only some users need, and the subjects of each."""


class CannotAsk(Exception):
    """A user could not ask the broker. The text contains the reason."""


class MayNotAsk(Exception):
    """The broker does not let a user ask what it may do: its configuration is older than this version."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """What the broker allows a user for one direction. No list means that everything is allowed."""

    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> "Patterns":
        found = given or {}
        return cls(found.get("allow") or None, found.get("deny") or ())

    def permits(self, subject: str) -> bool:
        """Return whether a subject or a whole pattern is permitted."""
        allowed = self.allow is None or any(covers(one, subject) for one in self.allow)
        return allowed and not any(covers(one, subject) for one in self.deny)


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the broker lets a user do."""

    publish: Patterns = field(default_factory=Patterns)
    subscribe: Patterns = field(default_factory=Patterns)

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> "Permissions":
        """Return those of an answer to `$SYS.REQ.USER.INFO`. Without any, the user may do everything."""
        found = given or {}
        return cls(Patterns.read(found.get("publish")), Patterns.read(found.get("subscribe")))


def covers(pattern: str, subject: str) -> bool:
    """Return whether a NATS pattern covers a subject, or all of another pattern. A queue group is part of a pattern."""
    wanted, _, queue = subject.partition(" ")
    allowed, _, allowed_queue = pattern.partition(" ")
    if allowed_queue and allowed_queue != queue:
        return False
    ours, theirs = allowed.split("."), wanted.split(".")
    for place, word in enumerate(ours):
        if word == ">":
            return len(theirs) > place
        if place >= len(theirs) or theirs[place] == ">" or word not in ("*", theirs[place]):
            return False
    return len(ours) == len(theirs)


async def ask(nc: Client, timeout_s: float) -> Permissions:
    """Ask the broker what this connection's user may do. Raises nats.errors.Error, CannotAsk."""
    answer = json.loads((await nc.request(USER_INFO, b"", timeout=timeout_s)).data)
    if "data" not in answer:
        raise CannotAsk(f"the broker does not say what it may do: {answer.get('error')}")
    return Permissions.read(answer["data"].get("permissions"))


Asks = Callable[[str, str], Awaitable[Permissions]]
"""Return what a user with this password may do. Raises CannotAsk, MayNotAsk."""


async def look_at_logins(
    asks: Asks, passwords: Mapping[str, str], publishers: Sequence[Publisher], roots: Collection[str]
) -> tuple[LoginProbe, ...]:
    """Compare all users with the table, as far as their passwords are known."""
    if not passwords:
        return ()
    table = users(roots, publishers)
    return tuple(await asyncio.gather(*(_look_at(asks, user, passwords.get(user.name)) for user in table)))


async def _look_at(asks: Asks, user: BrokerUser, password: str | None) -> LoginProbe:
    if not password:
        return LoginProbe(user.name, why="its password was not given")
    try:
        permissions = await asks(user.name, password)
    except MayNotAsk:
        return LoginProbe(user.name, shut=("ask what it may do",))
    except CannotAsk as error:
        return LoginProbe(user.name, why=str(error))
    return LoginProbe(user.name, tuple(_opened(user, permissions)), tuple(_shut(user, permissions)))


def _opened(user: BrokerUser, permissions: Permissions) -> Iterator[str]:
    """Yield what a user may do, but must not."""
    publish, subscribe = permissions.publish.permits, permissions.subscribe.permits
    if publish(f"{LIVE_PREFIX}doctor"):
        yield f"publish {LIVE}"
    if subscribe(">"):
        yield "subscribe to everything"
    if user.name != GATEWAY and subscribe(LIVE):
        yield f"subscribe to {LIVE}"
    if user.name != "auth" and publish(_MEMBERS):
        yield "change members"
    for action, subjects in _ACTIONS.items():
        if not _needs(user, action) and any(publish(one) for one in subjects if not one.startswith("$JS.API")):
            yield action


def _shut(user: BrokerUser, permissions: Permissions) -> Iterator[str]:
    """Yield what a user may not do, but must be able to do: actions by name, and the rest by subject."""
    missing = [one for one in user.publish if not permissions.publish.permits(one)]
    explained: set[str] = set()
    for action, subjects in _ACTIONS.items():
        if _needs(user, action) and (shut := set(subjects) & set(missing)):
            explained |= shut
            yield action
    yield from (f"publish on {one}" for one in missing if one not in explained)
    inbox = f"_INBOX_{user.name}.>"
    unheard = [one for one in (*user.subscribe, inbox) if not permissions.subscribe.permits(one)]
    yield from (f"subscribe to {one}" for one in unheard if one not in explained)


def _needs(user: BrokerUser, action: str) -> bool:
    return user.name in _PUSHERS if action == "push a catalogue" else user.name == GATEWAY

"""Answer the admin page. Its calls are not for other programs, which have the operations ports and the commands.

| call | answer |
|---|---|
| `GET me` | the role of the token |
| `GET overview` | rates, gateways, services, the stream, and problems |
| `GET rooms` | the largest rooms, with their clients and users |
| `GET sessions?user=&room=&after=` | sessions of all gateways |
| `POST sessions/ID/disconnect`, `POST sessions/ID/reset-limits` | |
| `POST reset-limits?user=` | |
| `GET letters` | the newest dead letters |
| `POST letters/replay`, `POST letters/drop` | what became of each |
| `GET outboxes` | what waits in each outbox, and what was refused |
| `GET keys` | signing keys and service tokens, without anything secret |
| `GET tail?room=&type=&user=&after=` | a line of JSON for each event, until one side ends it |

All paths begin with `operators.API`. A call that asks several services also names those that `failed`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import web
from pydantic import Field, SecretStr, StringConstraints

from beaconfire.admin.operators import API, ROLE
from beaconfire.admin.services import Answers, Services, refusal
from beaconfire.admin.settings import Settings
from beaconfire.admin.stream import Stream
from beaconfire.admin.watching import Watch
from beaconfire.broker_users import PUBLISHER
from beaconfire.deadletters import CannotRead
from beaconfire.dropping import drop
from beaconfire.options import MAX_WHY
from beaconfire.publishing import CannotPublish
from beaconfire.replaying import MAX_AT_ONCE, Handled, replay
from beaconfire_kit import errors
from beaconfire_kit.catalogue_store import CatalogueError
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.key_value import BucketMissing
from beaconfire_kit.models import Body
from beaconfire_kit.outbox_answers import PATH as OUTBOX
from beaconfire_kit.subjects import is_id
from beaconfire_kit.web import json_answer, read_body

MAX_ROOMS = 500
"""Rooms in an answer, the largest first."""
PAGE_OF_SESSIONS = 100
TAIL = "/api/v1/ws/tail"


class WantedReplay(Body):
    """Which dead letters to replay: these, or all of a reason, or all."""

    numbers: Annotated[tuple[int, ...], Field(min_length=1, max_length=MAX_AT_ONCE)] | None = None
    reason: str | None = None
    after: Annotated[int, Field(ge=0)] = 0


class WantedDrop(WantedReplay):
    """Which dead letters to delete, and why."""

    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_WHY)]


class Calls:
    """The handlers."""

    def __init__(self, settings: Settings, services: Services, stream: Stream, watch: Watch) -> None:
        self._settings = settings
        self._services = services
        self._stream = stream
        self._watch = watch
        self._addresses = ClientAddresses(settings)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{API}me", self.me),
            web.get(f"{API}overview", self.overview),
            web.get(f"{API}rooms", self.rooms),
            web.get(f"{API}sessions", self.sessions),
            web.post(f"{API}sessions/{{session_id}}/disconnect", self.disconnect),
            web.post(f"{API}sessions/{{session_id}}/reset-limits", self.reset_one),
            web.post(f"{API}reset-limits", self.reset_user),
            web.get(f"{API}letters", self.letters),
            web.post(f"{API}letters/replay", self.replay),
            web.post(f"{API}letters/drop", self.drop),
            web.get(f"{API}outboxes", self.outboxes),
            web.get(f"{API}keys", self.keys),
            web.get(f"{API}tail", self.tail),
        ]

    async def me(self, request: web.Request) -> web.Response:
        return json_answer({"role": request[ROLE], "canReplay": bool(self._publisher_password)})

    async def overview(self, _request: web.Request) -> web.Response:
        return json_answer(await self._watch.shown())

    async def rooms(self, request: web.Request) -> web.Response:
        """Answer with the largest rooms whose name contains `?search=`."""
        stats, occupancy = await asyncio.gather(
            self._services.ask_all("gateway", "/api/v1/ws/stats"), self._occupancy()
        )
        clients: Counter[str] = Counter()
        for one in stats.by_address.values():
            clients.update(one["clientsPerRoom"])
        users = occupancy.get("usersPerRoom", {})
        search = request.query.get("search", "").lower()
        names = {name for name in (*clients, *users) if search in name.lower()}
        largest = sorted(names, key=lambda name: (-clients[name], -users.get(name, 0), name))
        rooms = [{"room": name, "clients": clients[name], "users": users.get(name)} for name in largest[:MAX_ROOMS]]
        return json_answer(
            {
                "rooms": rooms,
                "total": len(names),
                "isCountingUsers": bool(occupancy.get("isCounting")),
                "failed": stats.failed,
            }
        )

    async def sessions(self, request: web.Request) -> web.Response:
        """Answer with sessions of `?user=`, an id or an e-mail address, in `?room=`, `?after=` an id."""
        wanted = await self._with_user_id(_asked(request, "user", "room", "after"))
        path = f"/api/v1/ws/sessions?{urlencode({**wanted, 'limit': PAGE_OF_SESSIONS})}"
        answers = await self._services.ask_all("gateway", path)
        sessions = [
            {**session, "gateway": address}
            for address, answer in answers.by_address.items()
            for session in answer["sessions"]
        ]
        page = sorted(sessions, key=lambda one: str(one["sessionId"]))[:PAGE_OF_SESSIONS]
        total = sum(answer["total"] for answer in answers.by_address.values())
        return json_answer({"sessions": page, "total": total, "failed": answers.failed})

    async def disconnect(self, request: web.Request) -> web.Response:
        return await self._change_session(request, "disconnect")

    async def reset_one(self, request: web.Request) -> web.Response:
        return await self._change_session(request, "reset-limits")

    async def reset_user(self, request: web.Request) -> web.Response:
        """Reset the limits of `?user=` and of all clients of this user, on every gateway."""
        wanted = await self._with_user_id(_asked(request, "user"))
        answers = await self._services.ask_all("gateway", f"/api/v1/ws/reset-limits?{urlencode(wanted)}", method="POST")
        if not answers.by_address:
            raise BeaconfireError(errors.BAD_REQUEST, next(iter(answers.failed.values()), "no gateway is known"))
        clients = sum(answer["clients"] for answer in answers.by_address.values())
        return json_answer({"clients": clients, "failed": answers.failed})

    async def letters(self, _request: web.Request) -> web.Response:
        letters = await self._stream.letters()
        return json_answer({"letters": [asdict(letter) for letter in letters]})

    async def replay(self, request: web.Request) -> web.Response:
        wanted = await read_body(request, WantedReplay)
        if not self._publisher_password:
            raise BeaconfireError(
                errors.FORBIDDEN, "set BEACONFIRE_PUBLISHER_PASSWORD for the admin page: it publishes as that user"
            )
        user = {"nats_user": PUBLISHER, "nats_password": SecretStr(self._publisher_password)}
        publisher = self._settings.model_copy(update=user)
        try:
            done = await replay(self._settings, publisher, wanted.numbers, reason=wanted.reason, after=wanted.after)
        except (CannotRead, CannotPublish, CatalogueError, BucketMissing) as error:
            raise BeaconfireError(errors.UNAVAILABLE, str(error)) from None
        return _handled(done)

    async def drop(self, request: web.Request) -> web.Response:
        """Delete dead letters. The log says which, why, and from which address the operator did it."""
        wanted = await read_body(request, WantedDrop)
        by = f"admin page, {self._addresses.of(request)}"
        try:
            done = await drop(
                self._settings, wanted.numbers, why=wanted.why, by=by, reason=wanted.reason, after=wanted.after
            )
        except CannotRead as error:
            raise BeaconfireError(errors.UNAVAILABLE, str(error)) from None
        return _handled(done)

    async def outboxes(self, _request: web.Request) -> web.Response:
        """Answer with every outbox. Processes of one service have the same, so one of them is enough."""
        answers = await asyncio.gather(*(self._services.ask_all(kind, OUTBOX) for kind in ("auth", "publisher")))
        outboxes = [
            {"address": address, **content} for answer in answers for address, content in answer.by_address.items()
        ]
        return json_answer({"outboxes": outboxes, "failed": _failed(*answers)})

    async def keys(self, _request: web.Request) -> web.Response:
        keys, tokens = await asyncio.gather(
            self._services.ask_one("auth", "/api/v1/auth/keys"),
            self._services.ask_one("auth", "/api/v1/auth/service-tokens"),
        )
        return json_answer({"keys": keys["keys"], "serviceTokens": tokens["serviceTokens"]})

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Pass on the tail of the first gateway that answers. Each gateway hears all events."""
        wanted = _asked(request, "room", "type", "user", "after")
        addresses = await self._services.addresses("gateway")
        problem = BeaconfireError(errors.UNAVAILABLE, "no gateway answers")
        for address in addresses.by_address:
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._services.open(address, f"{TAIL}?{urlencode(wanted)}") as answer:
                    if answer.status == 200:
                        return await _pass_on(request, answer)
                    problem = refusal(answer.status, await answer.read())
        raise problem

    @property
    def _publisher_password(self) -> str:
        return self._settings.publisher_password.get_secret_value()

    async def _with_user_id(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters with the user's id in place of an e-mail address. Raises BeaconfireError."""
        user = wanted.get("user", "")
        if "@" not in user:
            return dict(wanted)
        found = await self._services.ask_one("auth", f"/api/v1/auth/users/{quote(user, safe='')}")
        return {**wanted, "user": found["user"]["userId"]}

    async def _occupancy(self) -> Mapping[str, Any]:
        """Return the occupancy of rooms, or nothing if no gateway answers. Each knows the whole deployment."""
        try:
            return await self._services.ask_one("gateway", "/api/v1/ws/occupancy")
        except BeaconfireError:
            return {}

    async def _change_session(self, request: web.Request, what: str) -> web.Response:
        """Ask every gateway, because only one of them has the session."""
        session = request.match_info["session_id"]
        path = f"/api/v1/ws/clients/{session}/{what}"
        answers = await self._services.ask_all("gateway", path, method="POST") if is_id(session) else None
        if answers is None or not answers.by_address:
            raise BeaconfireError(errors.NOT_FOUND, "No gateway has this session any more.")
        return web.Response(status=204)


async def _pass_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    with suppress(aiohttp.ClientError, ConnectionError):  # one side has left: the page asks again
        async for piece in answer.content.iter_any():
            await response.write(piece)
    return response


def _handled(done: Handled) -> web.Response:
    return json_answer({"outcomes": [asdict(one) for one in done.outcomes], "moreAfter": done.more_after})


def _asked(request: web.Request, *names: str) -> dict[str, str]:
    """Return these parameters of the query, those that have a value."""
    return {name: value for name in names if (value := request.query.get(name))}


def _failed(*answers: Answers[Any]) -> dict[str, str]:
    return {address: why for one in answers for address, why in one.failed.items()}

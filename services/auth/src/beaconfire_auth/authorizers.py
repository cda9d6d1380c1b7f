"""Ask the authorizers of other applications which roles a user has in their roots.

A dead authorizer must hold neither auth nor the other authorizers:

* a question takes a second at most, its place in the line included
* `AT_ONCE` questions go to one authorizer at a time, and `MAX_HELD` requests wait for all of them together
* after `FAILURES` failures in a row it is not asked at all, for one second, then two, up to `MAX_PAUSE_S`

A whole answer that cannot be used is no such failure: only its own question is undecided.

What cannot be asked is undecided: access is neither given nor taken. Equal questions under way are asked once, and a
role counts for `KEPT_S` seconds, unless a revocation came in between.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from beaconfire_auth.people import Person
from beaconfire_auth.revocations import Revocation
from beaconfire_kit import logs, metrics, webhooks
from beaconfire_kit.authorizer import (
    MAX_ANSWER_BYTES,
    MAX_ROOTS,
    TIMEOUT_S,
    AuthorizerSetting,
    InvalidAnswer,
    Question,
    read_answer,
)
from beaconfire_kit.fetching import FetchFailed, post
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair

log = logs.get(__name__)

ANSWERS = metrics.Counter(
    "beaconfire_auth_authorizer_questions_total",
    "Questions to authorizers, by the kind of root and the result.",
    ["root_kind", "result"],
)
PAUSED = metrics.Gauge(
    "beaconfire_auth_authorizer_paused",
    "1 while auth asks an authorizer nothing because it does not answer, otherwise 0, by the kind of root.",
    ["root_kind"],
)

AT_ONCE = 16
MAX_HELD = 40
"""Requests to auth that may wait for authorizers at one time. Auth answers more than that at once (`rpc.WORKERS`)."""
KEPT_S = 5.0
MAX_KEPT = 20_000
FAILURES = 5
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
AWAY = frozenset({429, 502, 503, 504})
"""Statuses with which an application, or a proxy before it, says that it cannot answer anybody now."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An authorizer's answer about one root.

    `version` is the authorizer's own. `asked_at` is auth's count of membership changes when the question was sent.
    """

    role: Role | None
    version: int
    asked_at: int
    until: float

    def is_older_than(self, revocation: Revocation | None) -> bool:
        """Return whether the answer may have been given before the revocation."""
        return revocation is not None and (
            self.version < revocation.authorizer_version or self.asked_at < revocation.membership_version
        )


class Undecided(Exception):
    """There is no answer now. The text is the reason, a closed set of words for logs and metrics."""


class Authorizers:
    """All authorizers, by the kind of root that they decide about."""

    def __init__(
        self, settings: Sequence[AuthorizerSetting], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._by_kind = {one.root_kind: _Authorizer(one, monotonic) for one in settings}
        self._held = 0

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of roots that have an authorizer."""
        return frozenset(self._by_kind)

    def start(self, http: aiohttp.ClientSession) -> None:
        """Start asking, with this session."""
        for one in self._by_kind.values():
            one.http = http

    async def stop(self) -> None:
        """End the questions under way."""
        for one in self._by_kind.values():
            await one.stop()

    async def ask(
        self, person: Person, roots: Iterable[Pair], revoked: Mapping[Pair, Revocation], *, version: int
    ) -> Mapping[Pair, Decided | None]:
        """Return what the authorizers say about these roots, and None for the undecided.

        `version` is auth's count of membership changes by now. No answer is older than a revocation in `revoked`.
        """
        by_kind: dict[str, list[Pair]] = {}
        for root in roots:
            by_kind.setdefault(root.kind, []).append(root)
        if self._held >= MAX_HELD:
            for kind in by_kind:
                ANSWERS.labels(kind, "busy").inc()
            return dict.fromkeys((root for some in by_kind.values() for root in some), None)
        self._held += 1
        try:
            found = await asyncio.gather(
                *(self._by_kind[kind].ask(person, some, revoked, version) for kind, some in by_kind.items())
            )
        finally:
            self._held -= 1
        return {root: decided for answers in found for root, decided in answers.items()}


class _Authorizer:
    """One authorizer."""

    http: aiohttp.ClientSession

    def __init__(self, setting: AuthorizerSetting, monotonic: Callable[[], float]) -> None:
        self._setting = setting
        self._secrets = setting.read_secrets()
        self._monotonic = monotonic
        self._line = asyncio.Semaphore(AT_ONCE)
        self._kept: dict[tuple[str, Pair], Decided] = {}
        self._asking: dict[tuple[str, Pair], tuple[int, asyncio.Task[Mapping[Pair, Decided]]]] = {}
        self._failures = 0
        self._paused_until = float("-inf")
        self._quiet = logs.Seldom()
        PAUSED.labels(setting.root_kind).set(0)

    async def stop(self) -> None:
        tasks = {task for _, task in self._asking.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(
        self, person: Person, roots: Sequence[Pair], revoked: Mapping[Pair, Revocation], version: int
    ) -> Mapping[Pair, Decided | None]:
        answers: dict[Pair, Decided | None] = {}
        waiting: dict[Pair, asyncio.Task[Mapping[Pair, Decided]]] = {}
        new: list[Pair] = []
        for root in roots:
            kept, under_way = self._kept.get((person.user_id, root)), self._asking.get((person.user_id, root))
            revocation = revoked.get(root)
            if kept is not None and kept.until > self._monotonic() and not kept.is_older_than(revocation):
                answers[root] = kept
            elif under_way is not None and under_way[0] >= (revocation.membership_version if revocation else 0):
                waiting[root] = under_way[1]
            else:
                new.append(root)
        for start in range(0, len(new), MAX_ROOTS):
            some = new[start : start + MAX_ROOTS]
            waiting |= dict.fromkeys(some, self._begin(person, some, version))
        for root, task in waiting.items():
            try:
                # Shielded: others wait for the same answer.
                decided = (await asyncio.shield(task))[root]
                answers[root] = None if decided.is_older_than(revoked.get(root)) else decided
            except Undecided:
                answers[root] = None
        return answers

    def _begin(self, person: Person, roots: Sequence[Pair], version: int) -> asyncio.Task[Mapping[Pair, Decided]]:
        task = asyncio.create_task(self._decide(person, roots, version))
        keys = [(person.user_id, root) for root in roots]
        self._asking |= dict.fromkeys(keys, (version, task))

        def end(done: asyncio.Task[Mapping[Pair, Decided]]) -> None:
            for key in keys:
                if self._asking.get(key, (0, None))[1] is done:
                    del self._asking[key]
            if not done.cancelled():
                done.exception()  # it was raised to those who wait, if there are any left

        task.add_done_callback(end)
        return task

    async def _decide(self, person: Person, roots: Sequence[Pair], version: int) -> Mapping[Pair, Decided]:
        """Ask, keep the answer, and note whether the authorizer works. Raises Undecided."""
        kind = self._setting.root_kind
        if self._monotonic() < self._paused_until:
            ANSWERS.labels(kind, "paused").inc()
            raise Undecided("paused")
        if self._failures >= FAILURES:  # one question finds out whether it works again; the others do not wait for it
            self._paused_until = self._monotonic() + TIMEOUT_S
        try:
            decided = await self._ask(person, roots, version)
        except (FetchFailed, TimeoutError) as error:
            self._failed(error)
            raise Undecided("failed") from None
        except InvalidAnswer as error:
            # It is there. If this paused it, a user whose questions it cannot answer would keep all others out.
            self._report(error, "malformed")
            self._works()
            raise Undecided("malformed") from None
        ANSWERS.labels(kind, "answered").inc()
        self._works()
        if len(self._kept) > MAX_KEPT:
            self._kept.clear()
        # A refusal is not kept: whoever is let in by the application may come at once.
        self._kept |= {(person.user_id, root): one for root, one in decided.items() if one.role is not None}
        return decided

    async def _ask(self, person: Person, roots: Sequence[Pair], version: int) -> Mapping[Pair, Decided]:
        names = {str(root): root for root in roots}
        question = Question(user_id=person.user_id, issuer=person.issuer, sub=person.sub, roots=tuple(names))
        body = question.model_dump_json(exclude_none=True)
        async with asyncio.timeout(TIMEOUT_S), self._line:
            headers = webhooks.sign(
                self._secrets, body.encode(), message_id=f"msg_{uuid.uuid4().hex}", timestamp=int(time.time())
            )
            answer = await post(
                self.http,
                self._setting.url,
                body,
                headers={"Content-Type": "application/json", **headers},
                max_bytes=MAX_ANSWER_BYTES,
                timeout_s=TIMEOUT_S,
            )
        if answer.status in AWAY:
            raise FetchFailed(f"the answer has status {answer.status}")
        if answer.status != 200:
            raise InvalidAnswer(f"the answer has status {answer.status}")
        read = read_answer(answer.body, names)
        until = self._monotonic() + KEPT_S
        return {root: Decided(read.roles[name], read.version, version, until) for name, root in names.items()}

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failures - FAILURES, 10), MAX_PAUSE_S)
            self._paused_until = self._monotonic() + pause_s
            PAUSED.labels(self._setting.root_kind).set(1)
        self._report(error, "failed")

    def _report(self, error: Exception, result: str) -> None:
        kind = self._setting.root_kind
        ANSWERS.labels(kind, result).inc()
        if (left_out := self._quiet.passes(result)) is not None:
            log.warning(
                "an authorizer does not answer as it should",
                root_kind=kind,
                reason=str(error)[:200] or "no whole answer within a second",
                failures=self._failures,
                left_out_count=left_out,
            )

    def _works(self) -> None:
        if self._failures >= FAILURES:
            log.info("an authorizer answers again", root_kind=self._setting.root_kind)
        self._failures, self._paused_until = 0, float("-inf")
        PAUSED.labels(self._setting.root_kind).set(0)

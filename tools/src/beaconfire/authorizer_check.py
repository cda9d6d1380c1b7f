"""Check that an authorizer keeps the contract (docs/topics/authorizers.md): good questions, and hostile ones."""

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import aiohttp

from beaconfire_kit import webhooks
from beaconfire_kit.authorizer import (
    MAX_ANSWER_BYTES,
    MAX_ROOTS,
    TIMEOUT_S,
    Answer,
    InvalidAnswer,
    Question,
    read_answer,
)
from beaconfire_kit.fetching import Answer as HttpAnswer
from beaconfire_kit.fetching import FetchFailed, post
from beaconfire_kit.secret_files import Secret
from beaconfire_kit.subjects import Pair

TOO_OLD_S = 2 * webhooks.TOLERANCE_S
TOO_LARGE_BYTES = 256 * 1024


class Verdict(NamedTuple):
    """Whether one rule is kept, and what happened."""

    rule: str
    ok: bool
    detail: str


class _Broken(Exception):
    """The authorizer breaks the rule. The text says what happened, and what to do."""


async def check(
    http: aiohttp.ClientSession, url: str, secret: Secret, *, user: str, roots: Sequence[Pair]
) -> Sequence[Verdict]:
    """Check every rule. The user and the roots are real ones, about which a good authorizer has an answer."""
    asking = _Asking(http, url, secret, user, roots)
    return [await _verdict(rule, attempt) for rule, attempt in asking.rules()]


async def _verdict(rule: str, attempt: Callable[[], Awaitable[str]]) -> Verdict:
    try:
        return Verdict(rule, True, await attempt())
    except (_Broken, FetchFailed, InvalidAnswer) as error:
        return Verdict(rule, False, str(error))


class _Asking:
    """Asks one authorizer."""

    def __init__(self, http: aiohttp.ClientSession, url: str, secret: Secret, user: str, roots: Sequence[Pair]) -> None:
        self._http = http
        self._url = url
        self._secret = secret
        self._user = user
        self._roots = [str(root) for root in roots]
        self._kind = roots[0].kind
        self._version = 0

    def rules(self) -> Sequence[tuple[str, Callable[[], Awaitable[str]]]]:
        stranger = Secret(secrets.token_bytes(32))
        return [
            ("answers a good question", self._good),
            ("answers null for an unknown root", self._unknown_root),
            ("answers null for an unknown user", self._unknown_user),
            (f"answers for {MAX_ROOTS} roots at once", self._many_roots),
            ("ignores a field that it does not know", self._unknown_field),
            ("accepts one right signature of two", self._two_signatures),
            ("refuses a request without a signature", lambda: self._refused(self._question(), signed=False)),
            ("refuses a wrong signature", lambda: self._refused(self._question(), by=stranger)),
            ("refuses a body that was changed", self._changed_body),
            ("refuses an id that was changed", self._changed_id),
            ("refuses a request of ten minutes ago", lambda: self._refused(self._question(), off_s=-TOO_OLD_S)),
            ("refuses a request from the future", lambda: self._refused(self._question(), off_s=TOO_OLD_S)),
            ("refuses a body of 256 KiB", lambda: self._refused(self._question(padding="x" * TOO_LARGE_BYTES))),
            ("refuses a body that is not JSON", lambda: self._refused("{")),
            ("refuses a question without roots", lambda: self._refused(json.dumps({"userId": self._user}))),
            ("still answers afterwards, and its version has not gone down", self._good),
        ]

    async def _good(self) -> str:
        answer = await self._answered(self._user, self._roots)
        if answer.version < self._version:
            raise _Broken(f"version went down from {self._version} to {answer.version}")
        self._version = answer.version
        return ", ".join(f"{root} {role or 'null'}" for root, role in answer.roles.items())

    async def _unknown_root(self) -> str:
        return _all_null(await self._answered(self._user, [self._random_root()]))

    async def _unknown_user(self) -> str:
        return _all_null(await self._answered(f"nobody-{secrets.token_hex(8)}", self._roots))

    async def _many_roots(self) -> str:
        roots = [self._random_root() for _ in range(MAX_ROOTS)]
        await self._answered(self._user, roots)
        return "within a second"

    async def _unknown_field(self) -> str:
        _read(await self._send(self._question(something_new={"a": [1]})), self._roots)
        return "answered"

    async def _two_signatures(self) -> str:
        body = self._question()
        headers = self._sign(body)
        headers[webhooks.SIGNATURE] = f"v1,{'A' * 43}= {headers[webhooks.SIGNATURE]}"
        _read(await self._post(body, headers), self._roots)
        return "answered"

    async def _changed_body(self) -> str:
        body = self._question()
        return _refusal(await self._post(body + " ", self._sign(body)))

    async def _changed_id(self) -> str:
        body = self._question()
        return _refusal(await self._post(body, {**self._sign(body), webhooks.ID: "msg_another"}))

    async def _refused(self, body: str, *, by: Secret | None = None, off_s: int = 0, signed: bool = True) -> str:
        return _refusal(await self._post(body, self._sign(body, by=by, off_s=off_s) if signed else {}))

    async def _answered(self, user: str, roots: Sequence[str]) -> Answer:
        question = Question(user_id=user, roots=tuple(roots))
        return _read(await self._send(question.model_dump_json(exclude_none=True)), roots)

    def _question(self, **more: Any) -> str:
        return json.dumps({"userId": self._user, "roots": self._roots, **more})

    def _random_root(self) -> str:
        return f"{self._kind}:unknown-{secrets.token_hex(8)}"

    async def _send(self, body: str) -> HttpAnswer:
        return await self._post(body, self._sign(body))

    def _sign(self, body: str, *, by: Secret | None = None, off_s: int = 0) -> dict[str, str]:
        message_id = f"msg_{secrets.token_hex(16)}"
        return webhooks.sign(
            [by or self._secret], body.encode(), message_id=message_id, timestamp=int(time.time()) + off_s
        )

    async def _post(self, body: str, headers: dict[str, str]) -> HttpAnswer:
        return await post(
            self._http,
            self._url,
            body,
            headers={"Content-Type": "application/json", **headers},
            max_bytes=MAX_ANSWER_BYTES,
            timeout_s=TIMEOUT_S,
        )


def _read(answer: HttpAnswer, roots: Sequence[str]) -> Answer:
    if answer.status != 200:
        hint = ": is it the same secret?" if answer.status == 401 else ""
        raise _Broken(f"status {answer.status}, expected 200{hint}")
    return read_answer(answer.body, roots)


def _all_null(answer: Answer) -> str:
    if given := [f"{root} {role}" for root, role in answer.roles.items() if role is not None]:
        raise _Broken(f"answered {given[0]}, expected null")
    return "null"


def _refusal(answer: HttpAnswer) -> str:
    if 400 <= answer.status < 500:
        return f"status {answer.status}"
    if answer.status == 200:
        raise _Broken("status 200: it was answered like a good question. Verify before you answer")
    raise _Broken(f"status {answer.status}, expected one of 400 to 499")

"""Ask the operations ports of all services. One that does not answer is named, and does not delay the others."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import aiohttp

from beaconfire.admin.settings import Settings
from beaconfire.api import ApiError
from beaconfire.gateways import addresses_at
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError, row_of

log = logs.get(__name__)

TIMEOUT_S = 3.0
"""A service that has not answered by then is named as one that does not answer."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What several services answered, by address, and why the others did not."""

    by_address: Mapping[str, T]
    failed: Mapping[str, str] = field(default_factory=dict)


class Services:
    """The services of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._token = settings.operator_token.get_secret_value()
        self._urls = {
            "gateway": settings.gateway_ops,
            "auth": settings.auth_ops,
            "publisher": settings.publisher_ops,
        }

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """They can be asked within the block."""
        async with aiohttp.ClientSession() as self._session:
            yield

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    @property
    def kinds(self) -> Iterable[str]:
        return self._urls

    async def addresses(self, kind: str) -> Answers[str]:
        """Return the address of every process, each with the URL that it was found by."""
        urls = self._urls[kind]
        looked_up = (asyncio.to_thread(addresses_at, url) for url in urls)
        found = await asyncio.gather(*looked_up, return_exceptions=True)
        by_address: dict[str, str] = {}
        failed: dict[str, str] = {}
        for url, addresses in zip(urls, found, strict=True):
            if isinstance(addresses, ApiError):
                failed[url] = str(addresses)
            elif isinstance(addresses, BaseException):
                raise addresses
            else:
                by_address |= dict.fromkeys(addresses, url)
        return Answers(by_address, failed)

    async def ask_all(self, kind: str, path: str, *, method: str = "GET") -> Answers[dict[str, Any]]:
        """Ask every process of one kind for JSON. Answers with an error count as failed."""

        async def ask(address: str) -> dict[str, Any]:
            status, body = await self.fetch(address, path, method=method)
            return _read(status, body)

        return await self.each(kind, ask)

    async def each(self, kind: str, ask: Callable[[str], Awaitable[T]]) -> Answers[T]:
        """Await `ask` for every address of one kind."""
        addresses = await self.addresses(kind)
        failed = dict(addresses.failed)
        answers: dict[str, T] = {}

        async def one(address: str) -> None:
            try:
                answers[address] = await ask(address)
            except BeaconfireError as error:
                failed[address] = error.message

        await asyncio.gather(*map(one, addresses.by_address))
        return Answers(dict(sorted(answers.items())), failed)

    async def ask_one(self, kind: str, path: str) -> dict[str, Any]:
        """Ask one process after the other for JSON, until one answers. Raises BeaconfireError."""
        addresses = await self.addresses(kind)
        problem = BeaconfireError(errors.UNAVAILABLE, f"no {kind} is named in the settings")
        for address in addresses.by_address:
            try:
                status, body = await self.fetch(address, path)
                return _read(status, body)
            except BeaconfireError as error:
                problem = error
        for url, why in addresses.failed.items():
            problem = BeaconfireError(errors.UNAVAILABLE, f"{url}: {why}")
        raise problem

    async def fetch(self, address: str, path: str, *, method: str = "GET") -> tuple[int, bytes]:
        """Return the status and the body of an answer. Raises BeaconfireError if there is none."""
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._http.request(method, f"{address}{path}", headers=headers, timeout=timeout) as answer:
                body = await answer.content.read(MAX_ANSWER_BYTES)
                while not answer.content.at_eof() and len(body) < MAX_ANSWER_BYTES:
                    body += await answer.content.read(MAX_ANSWER_BYTES - len(body))
                return answer.status, body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = f"nothing within {TIMEOUT_S:.0f} s" if isinstance(error, TimeoutError) else type(error).__name__
            raise BeaconfireError(errors.UNAVAILABLE, f"{address} does not answer ({why})") from None

    def open(self, address: str, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Open an answer that goes on until one side ends it."""
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=None, connect=TIMEOUT_S)
        return self._http.get(f"{address}{path}", headers=headers, timeout=timeout)


def refusal(status: int, body: bytes) -> BeaconfireError:
    """Return the error of a service, for the operator."""
    if status == errors.TOKEN_INVALID.status:  # the operator's own token was accepted here
        return BeaconfireError(errors.UNAVAILABLE, "it has another BEACONFIRE_OPERATOR_TOKEN than this page")
    error = (json_object(body) or {}).get("error") or {}
    code = row_of(str(error.get("code", "")), errors.UNAVAILABLE)
    return BeaconfireError(code, str(error.get("message", f"refused with {status}")))


def _read(status: int, body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer. Raises BeaconfireError for an error of the service."""
    if status >= 400:
        raise refusal(status, body)
    said = json_object(body or b"{}")
    if said is None:
        raise BeaconfireError(errors.UNAVAILABLE, "the answer is not a JSON object: is this an operations port?")
    return said


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, or None if it is none."""
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None

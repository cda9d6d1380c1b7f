"""Answer operators for a gateway with several workers: ask each worker, and combine the answers.

A metric keeps its name and gets the label `worker`, as if each worker were a target of its own. So sums in Prometheus
stay right if a worker dies and counts from 0 again, and positions can be compared.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from beaconfire_gateway.process.catalogue_document import PATH as CATALOGUE_PATH
from beaconfire_gateway.process.event_views import EVENT_PATH, SIGN_OF_LIFE_S, TAIL_PATH
from beaconfire_gateway.process.operators import RESET_PATH, WHOLE_PATH, Figures
from beaconfire_gateway.process.presence_answers import OCCUPANCY_PATH
from beaconfire_gateway.process.session_views import SESSIONS_PATH, limit_of, merged
from beaconfire_gateway.process.supervisor import Board
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import VERSION, json_answer, operators_application

log = logs.get(__name__)

ASK_TIMEOUT_S = 2.0
"""A worker that has not answered by then is left out."""


def socket_of(group: str, number: int) -> str:
    """Return the address of a worker: a UNIX socket without a file, so that a killed worker leaves no file behind."""
    return f"\0beaconfire-gateway-{group}-{number}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A worker's answer."""

    status: int
    body: bytes

    def read(self) -> Any:
        """Return the JSON of its body."""
        return json.loads(self.body)


class Combined:
    """Answers operators for all workers on `board`, which listen at the sockets of `group`."""

    def __init__(self, board: Board, group: str) -> None:
        self._board = board
        self._group = group

    def application(self) -> web.Application:
        return operators_application(
            [
                web.get("/healthz", self.health),
                web.get("/readyz", self.readiness),
                web.get("/metrics", self.metrics),
                web.get("/api/v1/ws/stats", self.stats),
                web.get(CATALOGUE_PATH, self.catalogue),
                web.get(OCCUPANCY_PATH, self.occupancy),
                web.get(SESSIONS_PATH, self.sessions),
                web.get(EVENT_PATH, self.event),
                web.get(TAIL_PATH, self.tail),
                web.get("/api/v1/ws/users/{user_id}/clients", self.clients),
                web.post("/api/v1/ws/clients/{session_id}/reset-limits", self.change_one),
                web.post("/api/v1/ws/clients/{session_id}/disconnect", self.change_one),
                web.post(RESET_PATH, self.reset_all),
            ]
        )

    async def health(self, _request: web.Request) -> web.Response:
        return json_answer({"status": "alive"})

    async def readiness(self, _request: web.Request) -> web.Response:
        """Answer ready if at least one worker is, because the others get no clients. Includes each worker's answer."""
        answers = await self._ask_all("/readyz")
        says = {
            str(number): "does not answer" if self._board[number].listening else "starting"
            for number in self._board.workers
        }
        for number, answer in answers.items():
            if self._board[number].listening or answer.status != 200:
                says[str(number)] = str(answer.read()["status"])
        is_ready = "ready" in says.values()
        status = "ready" if is_ready else next(iter(says.values()))
        body = {"status": status, "service": "gateway", "version": VERSION, "workers": says}
        return json_answer(body, status=200 if is_ready else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        answers = await self._ask_all("/metrics")
        texts = {number: answer.body.decode() for number, answer in answers.items()}
        families = [*about(self._board, texts), *with_worker(texts)]
        return web.Response(body=_render(families), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def stats(self, _request: web.Request) -> web.Response:
        answers = await self._ask_all(WHOLE_PATH)
        figures = {number: Figures.read(answer.read()) for number, answer in answers.items()}
        if not figures:
            raise BeaconfireError(errors.UNAVAILABLE, "no worker answers, try again", retry_after_ms=1000)
        workers = [
            {"worker": number, "pid": self._board[number].pid, "clients": one.clients}
            for number, one in figures.items()
        ]
        return json_answer({**Figures.together(figures.values()).summary(), "workers": workers})

    async def catalogue(self, _request: web.Request) -> web.Response:
        """Answer with the document of the first worker that has a catalogue. All workers have the same."""
        return await self._first(CATALOGUE_PATH, "no worker has a catalogue yet, try again")

    async def occupancy(self, _request: web.Request) -> web.Response:
        """Answer with the occupancy of the first worker that answers. Each knows the whole deployment."""
        return await self._first(OCCUPANCY_PATH, "no worker answers, try again")

    async def sessions(self, request: web.Request) -> web.Response:
        limit = limit_of(request.query)
        answers = await self._ask_all(request.rel_url.raw_path_qs)
        for answer in answers.values():
            if answer.status != 200:  # all workers refuse the same
                return _passed_on(answer)
        return json_answer(merged({number: answer.read() for number, answer in answers.items()}, limit=limit))

    async def event(self, request: web.Request) -> web.Response:
        """Answer as the first worker does that answers. All workers read the same stream."""
        for number in self._board.workers:
            answer = await self._ask(number, "GET", request.rel_url.raw_path, authorization=_authorization(request))
            if answer is not None and answer.status != 503:
                return _passed_on(answer)
        raise BeaconfireError(errors.UNAVAILABLE, "no worker answers, try again", retry_after_ms=1000)

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Pass on the tail of the first worker that has one. All workers hear the same stream."""
        headers = {"Authorization": _authorization(request)}
        timeout = aiohttp.ClientTimeout(total=None, connect=ASK_TIMEOUT_S, sock_read=2 * SIGN_OF_LIFE_S)
        for number in self._board.workers:
            connector = aiohttp.UnixConnector(path=socket_of(self._group, number))
            url = f"http://worker{request.rel_url.raw_path_qs}"
            try:
                async with (
                    aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
                    http.get(url, headers=headers) as answer,
                ):
                    if answer.status == 503:
                        continue
                    if answer.status != 200:
                        return _passed_on(Answer(answer.status, await answer.read()))
                    return await _copied(request, answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                log.debug("a worker does not answer", worker=number, error=type(error).__name__)
        raise BeaconfireError(errors.UNAVAILABLE, "no worker answers, try again", retry_after_ms=1000)

    async def clients(self, request: web.Request) -> web.Response:
        answers = await self._ask_all(request.rel_url.raw_path)
        found = [
            {**client, "worker": number} for number, answer in answers.items() for client in answer.read()["clients"]
        ]
        return json_answer({"clients": sorted(found, key=lambda one: str(one["sessionId"]))})

    async def change_one(self, request: web.Request) -> web.Response:
        """Pass a call about one client on. One worker has it."""
        answers = await self._ask_all(request.rel_url.raw_path, method="POST")
        if not any(answer.status == 204 for answer in answers.values()):
            raise BeaconfireError(errors.NOT_FOUND, "no such session on this gateway")
        return web.Response(status=204)

    async def reset_all(self, request: web.Request) -> web.Response:
        answers = await self._ask_all(request.rel_url.raw_path_qs, method="POST")
        for answer in answers.values():
            if answer.status != 200:  # all workers refuse the same
                return _passed_on(answer)
        return json_answer({"clients": sum(answer.read()["clients"] for answer in answers.values())})

    async def _first(self, path: str, otherwise: str) -> web.Response:
        for number in self._board.workers:
            answer = await self._ask(number, "GET", path)
            if answer is not None and answer.status == 200:
                return web.Response(body=answer.body, content_type="application/json", charset="utf-8")
        raise BeaconfireError(errors.UNAVAILABLE, otherwise, retry_after_ms=1000)

    async def _ask_all(self, path: str, *, method: str = "GET") -> dict[int, Answer]:
        """Return each worker's answer, except from workers that do not answer in time."""
        numbers = self._board.workers
        answers = await asyncio.gather(*(self._ask(number, method, path) for number in numbers))
        return {number: answer for number, answer in zip(numbers, answers, strict=True) if answer is not None}

    async def _ask(self, number: int, method: str, path: str, *, authorization: str = "") -> Answer | None:
        connector = aiohttp.UnixConnector(path=socket_of(self._group, number))
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
                http.request(method, f"http://worker{path}", headers={"Authorization": authorization}) as answer,
            ):
                return Answer(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            log.debug("a worker does not answer", worker=number, error=type(error).__name__)
            return None


def _authorization(request: web.Request) -> str:
    return request.headers.get("Authorization", "")


def _passed_on(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, content_type="application/json", charset="utf-8")


async def _copied(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass on a worker's answer as it comes. It just ends if the worker does, and the operator asks again."""
    response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"], "X-Accel-Buffering": "no"})
    await response.prepare(request)
    with suppress(aiohttp.ClientError, TimeoutError):
        async for piece in answer.content.iter_any():
            await response.write(piece)
    return response


def with_worker(texts: Mapping[int, str]) -> Iterable[Metric]:
    """Return all workers' metrics as one text in Prometheus format. Every sample gets the label `worker`."""
    families: dict[str, Metric] = {}
    for worker, text in texts.items():
        for one in text_string_to_metric_families(text):
            family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
            family.samples += [
                sample._replace(labels={**sample.labels, "worker": str(worker)}) for sample in one.samples
            ]
    return families.values()


def about(board: Board, answering: Iterable[int]) -> Iterator[Metric]:
    """Return metrics of the starts of each worker, and of whether it answers."""
    up = GaugeMetricFamily(
        "beaconfire_gateway_worker_up", "1 if the worker answers and accepts clients, otherwise 0.", labels=["worker"]
    )
    starts = CounterMetricFamily(
        "beaconfire_gateway_worker_starts", "Times that the worker was started.", labels=["worker"]
    )
    for number in board.workers:
        up.add_metric([str(number)], number in answering and board[number].listening)
        starts.add_metric([str(number)], board[number].starts)
    yield from (up, starts)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _render(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(list(families)))
    return generate_latest(registry)

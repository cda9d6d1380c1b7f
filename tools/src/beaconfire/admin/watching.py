"""Watch all services: read their metrics and the stream's state every few seconds, and keep ten minutes of rates."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic.alias_generators import to_camel

from beaconfire.admin import figures
from beaconfire.admin.figures import Process, Reading
from beaconfire.admin.services import Services, json_object
from beaconfire.admin.stream import State, Stream
from beaconfire_kit import logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outbox_answers import PATH as OUTBOX

log = logs.get(__name__)

EVERY_S = 5.0
KEPT = 120
"""Points: ten minutes."""
LAG = 1_000
"""A gateway that is so many offsets behind the stream is named as a problem."""
STALE_S = 10.0
"""So is an outbox whose oldest event waits for longer, as in `/readyz` of its service."""


@dataclass(frozen=True, slots=True)
class Point:
    """The deployment's rates between two readings. None: nothing was there to measure."""

    at: float
    """Unix seconds."""
    events: float | None
    """Events a second that the busiest gateway heard, so that each counts once."""
    deliveries: float
    """Frames a second to all sessions."""
    opened: float
    """Connections a second."""
    sessions: int
    lag: int | None
    """Offsets between the end of the stream and the gateway that is the furthest behind."""
    oldest_s: float
    """How long the oldest event of all outboxes has waited for the broker."""
    heard_ms: float | None
    """From the stream to the gateway, for 95 of 100 events."""
    written_ms: float | None
    """From the gateway to the sockets, for 95 of 100 writes."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service, as its `/readyz` and its metrics show it."""

    kind: str
    name: str
    address: str
    status: str
    warnings: Sequence[str]
    readings: Mapping[Process, Reading]

    def total(self, name: str) -> float:
        return sum(reading.get(name) for reading in self.readings.values())

    def greatest(self, name: str) -> float:
        return max((reading.get(name) for reading in self.readings.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that was seen in one round."""

    at: float
    services: Sequence[Service] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why services could not be asked, by address."""
    stream: State | None = None
    stream_problem: str = ""

    @property
    def readings(self) -> dict[Process, Reading]:
        return {process: one for service in self.services for process, one in service.readings.items()}

    def of(self, kind: str) -> list[Service]:
        return [one for one in self.services if one.kind == kind]


class Watch:
    """Looks again every `every_s` seconds while `run` runs."""

    def __init__(self, services: Services, stream: Stream, *, every_s: float = EVERY_S) -> None:
        self._services = services
        self._stream = stream
        self._every_s = every_s
        self._has_looked = asyncio.Event()
        self._points: deque[Point] = deque(maxlen=KEPT)
        self._round = Round(time.time())
        self._names: dict[str, str] = {}
        """The names of services by their address."""

    async def run(self) -> None:
        """Watch forever."""
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(self._every_s / 10, self._every_s - (time.monotonic() - began)))

    async def look(self) -> None:
        """Look at everything once."""
        found, (state, problem) = await asyncio.gather(
            asyncio.gather(*map(self._of_kind, self._services.kinds)), self._of_stream()
        )
        services = [service for some, _ in found for service in some]
        failed = {address: why for _, some in found for address, why in some.items()}
        before, self._round = self._round, Round(time.time(), services, failed, state, problem)
        if before.services:
            self._points.append(_point(before, self._round))
        self._has_looked.set()

    async def shown(self) -> dict[str, Any]:
        """Return everything as the page shows it. Waits for the first look, which ends even if nothing answers."""
        await self._has_looked.wait()
        now = self._round
        gateways = now.of("gateway")
        return {
            "at": now.at,
            "points": [_camel(asdict(one)) for one in self._points],
            "problems": list(_problems(now)),
            "gateways": [_gateway(one, now.stream) for one in gateways],
            "services": [_service(one) for one in now.services if one.kind != "gateway"],
            "stream": None if now.stream is None else _camel(asdict(now.stream)),
            "catalogueRevision": int(max((one.greatest(figures.CATALOGUE) for one in gateways), default=0)),
        }

    async def _of_kind(self, kind: str) -> tuple[Sequence[Service], Mapping[str, str]]:
        async def ask(address: str) -> Service:
            (_, metrics), (_, readiness) = await asyncio.gather(
                self._services.fetch(address, "/metrics"), self._services.fetch(address, "/readyz")
            )
            said = json_object(readiness) or {}
            return Service(
                kind,
                await self._name(kind, address),
                address,
                str(said.get("status", "unknown")),
                [str(one) for one in said.get("warnings", ())],
                figures.read(metrics.decode(errors="replace"), address),
            )

        answers = await self._services.each(kind, ask)
        return list(answers.by_address.values()), answers.failed

    async def _name(self, kind: str, address: str) -> str:
        """Return a service's own name. It is asked for once, and `kind` is the name until it is known."""
        if kind == "publisher" and address not in self._names:
            with suppress(BeaconfireError):
                _, body = await self._services.fetch(address, OUTBOX)
                self._names[address] = str((json_object(body) or {}).get("service", kind))
        return self._names.get(address, kind)

    async def _of_stream(self) -> tuple[State | None, str]:
        try:
            return await self._stream.state(), ""
        except BeaconfireError as error:
            return None, error.message


def _point(before: Round, now: Round) -> Point:
    seconds = max(now.at - before.at, 0.001)
    earlier, readings = before.readings, now.readings
    heard = figures.grown(earlier, readings, figures.EVENTS)
    gateways = [one for one in now.of("gateway") if one.readings]
    return Point(
        at=now.at,
        events=max(heard.values()) / seconds if gateways and heard else None,
        deliveries=sum(figures.grown(earlier, readings, figures.FRAMES).values()) / seconds,
        opened=sum(figures.grown(earlier, readings, figures.OPENED).values()) / seconds,
        sessions=int(sum(one.total(figures.SESSIONS) for one in gateways)),
        lag=max((behind for one in gateways if (behind := _behind(one, now.stream)) is not None), default=None),
        oldest_s=max((one.greatest(figures.OLDEST) for one in now.services), default=0.0),
        heard_ms=figures.quantile_ms(earlier, readings, figures.HEARD),
        written_ms=figures.quantile_ms(earlier, readings, figures.WRITTEN),
    )


def _positions(gateway: Service) -> list[int]:
    """Return the position of each process that has one."""
    return [int(position) for one in gateway.readings.values() if (position := one.get(figures.POSITION))]


def _behind(gateway: Service, stream: State | None) -> int | None:
    """Return how far a gateway is behind the stream. They were asked at the same moment, or almost."""
    positions = _positions(gateway)
    return max(0, stream.last - min(positions)) if stream is not None and positions else None


def _problems(now: Round) -> Sequence[str]:
    found = [f"{address}: {why}" for address, why in now.failed.items()]
    if now.stream_problem:
        found.append(f"Broker: {now.stream_problem}")
    for one in now.services:
        name = f"{one.name} {one.address}"
        if one.status != "ready":
            found.append(f"{name}: {one.status}")
        found += [f"{name}: {warning}" for warning in one.warnings]
        if one.greatest(figures.DEGRADED):
            found.append(f"{name}: the broker does not acknowledge its ticks, so events may be late")
        if (behind := _behind(one, now.stream)) is not None and behind > LAG:
            found.append(f"{name}: it is {behind:,} offsets behind the stream")
        if (oldest := one.greatest(figures.OLDEST)) > STALE_S:
            found.append(f"{name}: its oldest event has waited for the broker for {oldest:.0f} s")
    return found


def _gateway(one: Service, stream: State | None) -> dict[str, Any]:
    return {
        "address": one.address,
        "status": "degraded" if one.greatest(figures.DEGRADED) and one.status == "ready" else one.status,
        "workers": len(one.readings),
        "sessions": int(one.total(figures.SESSIONS)),
        "rooms": int(one.greatest(figures.ROOMS)),
        "position": min(_positions(one), default=None),
        "behind": _behind(one, stream),
    }


def _service(one: Service) -> dict[str, Any]:
    return {
        "name": one.name,
        "address": one.address,
        "status": one.status,
        "waiting": int(one.total(figures.PENDING)),
        "waitingRoots": int(one.total(figures.WAITING_ROOTS)),
        "oldestS": one.greatest(figures.OLDEST),
        "setAside": int(one.total(figures.SET_ASIDE)),
    }


def _camel(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {to_camel(name): value for name, value in fields.items()}

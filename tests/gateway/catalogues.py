"""Catalogues for parts of the gateway that run without a broker: our own events, always known."""

import asyncio
from typing import Any

from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue.timeline import Start, Timeline

BUILTIN = Catalogue.of(1, builtin.fragments())


def builtin_timeline() -> Timeline:
    """Our own events count for the whole stream."""
    timeline = Timeline()
    timeline.begin([(0, BUILTIN)])
    return timeline


class Fixed:
    """Implements `gateway.Newest`: there is no newer revision."""

    @property
    def known(self) -> Catalogue:
        return BUILTIN

    async def newest(self) -> Catalogue:
        return BUILTIN


class Unchanging:
    """Implements `intake.Revisions`: one revision, which can be read unless a test says otherwise."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.is_lost = False
        """Whether no revision can be read, nor taken up."""
        self.read_up_to: list[int] = []
        """The end of the stream at each read."""

    async def read(self, epoch: str, end: int) -> list[Start] | None:
        self.read_up_to.append(end)
        if self.is_lost:
            self.problem = "lost"
            return None
        return [(0, BUILTIN)]

    def begin(self, starts: list[Start]) -> None:
        self.problem = None

    def take_up(self, offset: int, body: bytes) -> bool:
        if self.is_lost:
            self.problem = "lost"
        return not self.is_lost

    async def preloaded(self) -> None: ...

    async def wait(self) -> None:
        await asyncio.sleep(0.1)


def siege(*, at_most: int | None = None, version: int = 1, ephemeral: bool = False) -> dict[str, Any]:
    """Return a fragment with one event below our own root: `siege.begun`, whose `force` is `at_most` this."""
    force = {"type": "integer"} if at_most is None else {"type": "integer", "maximum": at_most}
    message = {
        "name": "siege.begun",
        "payload": {"type": "object", "properties": {"force": force}},
        "x-beaconfire": {"version": version, "ephemeral": ephemeral},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Sieges", "version": "1"},
        "x-beaconfire": {"fragment": "sieges"},
        "channels": {"siege": {"address": "campaign.{campaignId}.siege.{siegeId}", "messages": {"begun": message}}},
    }


def couriers(*, window_ms: int = 200, ephemeral: bool = False, is_conflated: bool = True) -> dict[str, Any]:
    """Return a fragment with `courier.moved`, which is conflated by courier, and `courier.called`, which is not."""
    payload = {"type": "object", "properties": {"courierId": {"type": "string"}, "step": {"type": "integer"}}}
    conflate: dict[str, Any] = {"ephemeral": ephemeral}
    if is_conflated:
        conflate["conflate"] = {"key": "/courierId", "windowMs": window_ms}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Couriers", "version": "1"},
        "x-beaconfire": {"fragment": "couriers"},
        "channels": {
            "courier": {
                "address": "campaign.{campaignId}.courier.{courierId}",
                "messages": {
                    "moved": {"name": "courier.moved", "payload": payload, "x-beaconfire": conflate},
                    "called": {"name": "courier.called", "payload": payload},
                },
            }
        },
    }


def catalogue_with(*documents: dict[str, Any]) -> Catalogue:
    """Return a catalogue of our own events and these fragments."""
    pushed = [read_fragment(document) for document in documents]
    return Catalogue.of(2, {**builtin.fragments(), **{one.name: one for one in pushed}})


def pictures() -> dict[str, Any]:
    """Return a fragment with `picture.shown`, whose `thumbnail` and tiles are bytes."""
    encoded = {"type": "string", "contentEncoding": "base64"}
    tile = {"type": "object", "properties": {"data": {"anyOf": [encoded, {"type": "null"}]}}}
    fields = {"thumbnail": encoded, "title": {"type": "string"}, "tiles": {"type": "array", "items": tile}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pictures", "version": "1"},
        "x-beaconfire": {"fragment": "pictures"},
        "channels": {
            "picture": {
                "address": "campaign.{campaignId}.picture.{pictureId}",
                "messages": {"picture.shown": {"payload": {"type": "object", "properties": fields}}},
            }
        },
    }

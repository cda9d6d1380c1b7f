"""Answer operators with the AsyncAPI document of the catalogue that counts now (`/asyncapi.json`)."""

import asyncio
import json

from aiohttp import web

from beaconfire_kit import errors
from beaconfire_kit.catalogue.asyncapi import asyncapi
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.timeline import Timeline
from beaconfire_kit.errors import BeaconfireError

PATH = "/asyncapi.json"


class CatalogueDocument:
    """Writes the document once for each revision that is asked for."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._lock = asyncio.Lock()
        self._revision = 0
        self._body = b""

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self.document)]

    async def document(self, _request: web.Request) -> web.Response:
        """Answer with the document. 503 until the gateway has a catalogue."""
        if not self._timeline:
            raise BeaconfireError(errors.UNAVAILABLE, "this gateway has no catalogue yet", retry_after_ms=1000)
        catalogue = self._timeline.current
        async with self._lock:
            if self._revision != catalogue.revision:
                # A thousand types take some 0.3 s, in which events go on being delivered.
                self._body = await asyncio.to_thread(_written, catalogue)
                self._revision = catalogue.revision
        return web.Response(body=self._body, content_type="application/json", charset="utf-8")


def _written(catalogue: Catalogue) -> bytes:
    types = [event for versions in catalogue.types.values() for event in versions.values()]
    return json.dumps(asyncapi(types, version=str(catalogue.revision)), ensure_ascii=False).encode()

"""Answer operators what waits in a service's outbox, on its operations port (docs/reference/http.md, "Operations")."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from aiohttp import web
from pydantic.alias_generators import to_camel

from beaconfire_kit import errors
from beaconfire_kit.envelope import described
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.outbox_table import Content, Written, find, look
from beaconfire_kit.web import json_answer

PATH = "/api/v1/outbox"
EVENTS_PATH = "/api/v1/outbox/events"
_id = re.compile("[!-~]{1,128}").fullmatch
_offset = re.compile("[0-9]{1,18}").fullmatch


def routes(outbox: Outbox, *, service: str) -> list[web.RouteDef]:
    """The routes that answer with the content of the outbox, and with single events of it, without payloads.

    They read the database, so do not ask every second.
    """

    async def whole(_request: web.Request) -> web.Response:
        async with outbox.database.reading() as connection:
            return json_answer({"service": service, **_json(await look(connection, outbox.rows))})

    async def events(request: web.Request) -> web.Response:
        asked = request.query
        offset = asked.get("offset")
        if offset is not None and _offset(offset) is None:
            raise BeaconfireError(errors.BAD_REQUEST, f"offset: expected a number, not {offset[:20]!r}")
        event_id, correlation_id = (_visible(asked, name) for name in ("id", "correlation"))
        async with outbox.database.reading() as connection:
            found = await find(
                connection,
                outbox.rows,
                event_id=event_id,
                offset=None if offset is None else int(offset),
                correlation_id=correlation_id,
            )
        return json_answer({"service": service, "events": [_event(one) for one in found]})

    return [web.get(PATH, whole), web.get(EVENTS_PATH, events)]


def _visible(asked: Mapping[str, str], name: str) -> str | None:
    """Return an id that is asked for, if any. Raises BeaconfireError for a text that no event has."""
    text = asked.get(name)
    if text is not None and _id(text) is None:
        raise BeaconfireError(errors.BAD_REQUEST, f"{name}: expected up to 128 visible ASCII characters")
    return text


def _event(written: Written) -> dict[str, object]:
    return {
        "eventId": written.event_id,
        "subject": written.subject,
        **described(written.body),
        "createdAt": _text(written.created_at),
        "publishedAt": None if written.published_at is None else _text(written.published_at),
        "streamOffset": written.stream_offset,
        "refused": written.refused,
        "ahead": written.ahead,
        "firstAhead": written.first_ahead,
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json(content: Content) -> dict[str, object]:
    def camel(value: object) -> object:
        if isinstance(value, dict):
            return {to_camel(name): camel(one) for name, one in value.items()}
        return [camel(one) for one in value] if isinstance(value, list) else value

    return {to_camel(name): camel(value) for name, value in asdict(content).items()}

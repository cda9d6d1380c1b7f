"""Answer operators what waits in a service's outbox, on its operations port (docs/reference/http.md, "Operations")."""

from dataclasses import asdict

from aiohttp import web
from pydantic.alias_generators import to_camel

from beaconfire_kit.outbox import Outbox
from beaconfire_kit.outbox_table import Content, look
from beaconfire_kit.web import json_answer

PATH = "/api/v1/outbox"


def route(outbox: Outbox, *, service: str) -> web.RouteDef:
    """The route that answers with the content of the outbox. It reads the database, so do not ask every second."""

    async def answer(_request: web.Request) -> web.Response:
        async with outbox.database.reading() as connection:
            return json_answer({"service": service, **_json(await look(connection, outbox.rows))})

    return web.get(PATH, answer)


def _json(content: Content) -> dict[str, object]:
    def camel(value: object) -> object:
        if isinstance(value, dict):
            return {to_camel(name): camel(one) for name, one in value.items()}
        return [camel(one) for one in value] if isinstance(value, list) else value

    return {to_camel(name): camel(value) for name, value in asdict(content).items()}

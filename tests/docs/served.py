"""The calls that the services answer, as the pages name them."""

import re
from collections.abc import Iterator

from aiohttp import web

from beaconfire_kit.web import operations
from tests.routers import built

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def applications() -> Iterator[web.Application]:
    """Each service's application, and that of its operations port. None of them is started."""
    for _, _, app in built():
        yield app
        yield operations(app)


def served() -> set[str]:
    """`GET /v1/campaigns/{}` for each call."""
    return {
        f"{route.method} {nameless(route.resource.canonical)}"
        for app in applications()
        for route in app.router.routes()
        if route.resource is not None and route.method in METHODS
    }


def nameless(path: str) -> str:
    """Return a path without its query and the names of its parameters. Anything below a folder is a parameter."""
    path = re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])
    return f"{path.removesuffix('…')}{{}}" if path.endswith("/…") else path

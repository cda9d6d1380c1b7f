"""The demo page and the browser client it uses, as static files, and what the page must know to start."""

import html
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from beaconfire_gateway.process.settings import Settings

_ROOT = Path(__file__).parents[5]
PAGE = _ROOT / "demo" / "src" / "beaconfire_demo" / "campaign" / "page"
CLIENT = _ROOT / "clients" / "js" / "src"

_NOT_FOUND = (Path(__file__).parent / "not_found.html").read_text()

# No inline script or style, nothing from elsewhere, and no form that a browser sends by itself: scripts send them. The
# services may be on other ports; 'self' is also the page's own /ws.
_POLICY = (
    "default-src 'self'; connect-src {connect}; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def add_page(app: web.Application, settings: Settings) -> None:
    """Serve `/`, `/client/…` and `/config.json`."""
    services = [settings.public_auth_url, settings.public_publisher_url, settings.public_socket_url]
    policy = _POLICY.format(connect=" ".join(["'self'", *map(_origin, filter(None, services))]))

    async def index(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def config(_request: web.Request) -> web.Response:
        return web.json_response(
            {
                "authUrl": settings.public_auth_url,
                "publisherUrl": settings.public_publisher_url,
                "socketUrl": settings.public_socket_url,
                "demo": [person.model_dump() for person in settings.demo_people],
            }
        )

    async def harden(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = policy
        response.headers["Referrer-Policy"] = "no-referrer"
        if isinstance(response, web.FileResponse):  # the same for everybody, and asked for again each time
            response.headers["Cache-Control"] = "no-cache"

    app.on_response_prepare.append(harden)
    app.middlewares.append(_explain_to_people)
    app.router.add_get("/", index)
    app.router.add_get("/config.json", config)
    app.router.add_get("/client/{path:.+}", _files_of(CLIENT))
    app.router.add_get("/page/{path:.+}", _files_of(PAGE))


def _files_of(folder: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler for the files that are in a folder at the start. Others are not found, by people and programs alike."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    async def serve(request: web.Request) -> web.StreamResponse:
        path = files.get(request.match_info["path"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    return serve


@web.middleware
async def _explain_to_people(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an unknown address with a page if a browser asks for one, and as every service does (in JSON) if not."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        if not _wants_page(request):
            raise
    # Relative, as the page may lie below a proxy's path prefix.
    home = "../" * (request.path.count("/") - 1) or "./"
    text = _NOT_FOUND.format(home=home, path=html.escape(request.path[:200]))
    return web.Response(text=text, status=404, content_type="text/html", headers={hdrs.VARY: hdrs.ACCEPT})


def _wants_page(request: web.Request) -> bool:
    """Whether somebody has opened the address in a browser: scripts and tools accept anything, but do not name HTML."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get(hdrs.ACCEPT, "").lower()


def _origin(url: str) -> str:
    """Scheme, host and port of an address: a policy that names a path would forbid all others."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

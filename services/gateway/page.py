"""The demo page and the browser client it uses, as static files, and what the page must know to start."""

from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from services.gateway.settings import Settings

PAGE = Path(__file__).parent / "page"
CLIENT = Path(__file__).parents[2] / "clients" / "js" / "src"

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
        if (
            isinstance(response, web.FileResponse) and response.status < 400
        ):  # the same for everybody, and asked for again each time
            response.headers["Cache-Control"] = "no-cache"

    app.on_response_prepare.append(harden)
    app.router.add_get("/", index)
    app.router.add_get("/config.json", config)
    if CLIENT.is_dir():
        app.router.add_static("/client/", CLIENT)
    if PAGE.is_dir():
        app.router.add_static("/page/", PAGE)


def _origin(url: str) -> str:
    """Scheme, host and port of an address: a policy that names a path would forbid all others."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

"""Serve folders of static files to browsers, such as the demo's page: `BEACONFIRE_STATIC_DIR`.

`/` is the folder's `index.html`, `/editor/` is its `editor/index.html`, and every other file has its own path. A
gateway serves the files that are there when it starts. Of a file that several folders have, the first counts. Hidden
files and folders, whose names begin with a dot, are not served, except `.well-known`. Two files are for the gateway:

* `404.html` is the answer to a browser that opens an unknown address. `{home}` and `{path}` in it are filled in.
* `content-security-policy.txt` has the policy of the folder's pages, in one line. Without it they have a strict one.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from beaconfire_kit import logs

log = logs.get(__name__)

INDEX = "index.html"
NOT_FOUND = "404.html"
POLICY = "content-security-policy.txt"
STRICT = (
    "default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def check_folder(folder: Path) -> Path:
    """Return a folder that can be served. Raises ValueError with the reason if it cannot."""
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder: name one with files to serve, or leave it empty")
    policy = folder / POLICY
    if policy.is_file() and not policy.read_text().strip().isprintable():
        raise ValueError(f"'{policy}' has to be one line: it is sent as a header")
    return folder


def add_static_files(app: web.Application, folders: Sequence[Path]) -> None:
    """Serve the folders' files, if there are any. Every response gets their policy; without a folder, a strict one."""
    policy = STRICT
    if folders:
        files = _Files(folders)
        policy = files.own(POLICY) or STRICT
        app.middlewares.append(_explaining_to_people(files.own(NOT_FOUND)))
        for path, handler in files.routes():
            app.router.add_get(path, handler)
        log.info("serving static files", folders=[str(one) for one in folders], count=len(files))

    async def harden(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = policy
        response.headers["Referrer-Policy"] = "no-referrer"
        if isinstance(response, web.FileResponse):  # a new version has the same names, so browsers ask each time
            response.headers["Cache-Control"] = "no-cache"

    app.on_response_prepare.append(harden)


class _Files:
    """The files that were in the folders at the start, by their path below. Links that lead out of them are none."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._roots = [folder.resolve() for folder in folders]
        self._by_path = {
            path.relative_to(root).as_posix(): path
            for root in reversed(self._roots)
            for path in sorted(root.rglob("*"))
            if path.is_file() and self._is_inside(path) and not _is_hidden(path.relative_to(root))
        }

    def __len__(self) -> int:
        return len(self._by_path)

    def own(self, name: str) -> str | None:
        """Take a file that is for the gateway itself, and return its text; None if there is none."""
        path = self._by_path.pop(name, None)
        return path.read_text().strip() if path else None

    def routes(self) -> list[tuple[str, Handler]]:
        """Return a route for each file at the top of the folder and for each folder there."""
        tops = sorted({name.partition("/")[0] for name in self._by_path if not set(name) & set("{}")})
        folders = {name.partition("/")[0] for name in self._by_path if "/" in name}
        paths = [f"/{top}/{{path:.*}}" if top in folders else f"/{top}" for top in tops]
        return [(path, self._serve) for path in (["/", *paths] if INDEX in self._by_path else paths)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = self._find(request.path.removeprefix("/"))
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    def _find(self, name: str) -> Path | None:
        path = self._by_path.get(f"{name}{INDEX}" if name.endswith("/") or not name else name)
        return path if path is not None and self._is_inside(path) else None

    def _is_inside(self, path: Path) -> bool:
        return any(path.resolve().is_relative_to(root) for root in self._roots)


def _is_hidden(path: Path) -> bool:
    """Return whether a name in the path begins with a dot: `.env`, or `.git/config`."""
    return any(part.startswith(".") and part != ".well-known" for part in path.parts)


def _explaining_to_people(page: str | None) -> Middleware:
    """Answer an unknown address with a page if a browser asks for one, and as every service does (in JSON) if not."""

    @web.middleware
    async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPNotFound:
            if page is None or not _wants_page(request):
                raise
        # Relative, as the page may lie below a proxy's path prefix.
        home = "../" * (request.path.count("/") - 1) or "./"
        text = page.replace("{home}", home).replace("{path}", html.escape(request.path[:200]))
        return web.Response(text=text, status=404, content_type="text/html", headers={hdrs.VARY: hdrs.ACCEPT})

    return explain


def _wants_page(request: web.Request) -> bool:
    """Whether a person has opened the address in a browser: scripts and tools accept anything, but do not name HTML."""
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get(hdrs.ACCEPT, "").lower()

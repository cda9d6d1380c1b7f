"""Write the demo's pages as a folder of static files, which any web server can serve.

    write_site(Path("site"), PageSettings(public_auth_url="https://auth.example"))

The folder then has a folder for each application, `page/` with what they share, `client/`, and `config.json`.
`index.html` is the page of the first application. `404.html` and `content-security-policy.txt` are for the gateway,
which reads them at its start (BEACONFIRE_STATIC_DIR).
"""

import html
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from beaconfire_demo.applications import APPLICATIONS, Application
from beaconfire_demo.settings import PageSettings

PACKAGE = Path(__file__).parent
CLIENT = PACKAGE / "client"

# The page has no inline script or style, loads no files from elsewhere, and its scripts send all its forms.
# The services may be on other ports; 'self' is also the page's own /ws.
_POLICY = (
    "default-src 'self'; connect-src {connect}; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

# People who write a page begin with one file.
_OWN_PAGE = (
    "default-src 'self' 'unsafe-inline'; img-src * data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none';"
)


def write_site(folder: Path, settings: PageSettings) -> None:
    """Write the pages and the client into a folder, over what an earlier version wrote there."""
    chosen = [APPLICATIONS[name] for name in settings.applications]
    folder.mkdir(parents=True, exist_ok=True)
    _copy(PACKAGE / "page", folder / "page")
    _copy(CLIENT, folder / "client")
    for application in APPLICATIONS.values():
        _write_application(folder / application.name, application, is_chosen=application in chosen)
    _replace(folder / "index.html", _index(chosen[0], home=""))
    _replace(folder / "404.html", (PACKAGE / "404.html").read_text())
    _replace(folder / "config.json", json.dumps(_config(settings, chosen)))
    _replace(folder / "content-security-policy.txt", _policy(settings))


def _write_application(folder: Path, application: Application, *, is_chosen: bool) -> None:
    if not is_chosen:
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.mkdir(exist_ok=True)
    _copy(PACKAGE / application.name / "page", folder / "page")
    _replace(folder / "index.html", _index(application, home="../"))


def _index(application: Application, *, home: str) -> str:
    """Return the page of an application. `home` is the relative address of the site's own folder."""
    page = (PACKAGE / "index.html").read_text()
    for name, text in {
        "home": home,
        "name": application.name,
        "title": application.title,
        "description": application.description,
    }.items():
        page = page.replace(f"{{{name}}}", html.escape(text))
    return page


def write_client(folder: Path, services: Sequence[str]) -> None:
    """Write the browser client alone into a folder, for a page of one's own in development.

    The page's scripts and styles may stand in its HTML, and it may call these services.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _copy(CLIENT, folder / "client")
    connect = " ".join(["'self'", *map(_origin, services)])
    _replace(folder / "content-security-policy.txt", f"{_OWN_PAGE} connect-src {connect}")


def _config(settings: PageSettings, applications: Sequence[Application]) -> dict[str, object]:
    """Return the configuration that the pages read first."""
    return {
        "authUrl": settings.public_auth_url,
        "publisherUrl": settings.public_publisher_url,
        "workspaceUrl": settings.public_workspace_url,
        "trackerUrl": settings.public_tracker_url,
        "socketUrl": settings.public_socket_url,
        "applications": [{"name": one.name, "title": one.title} for one in applications],
        "demo": [person.model_dump() for person in settings.demo_people],
    }


def _policy(settings: PageSettings) -> str:
    services = [
        settings.public_auth_url,
        settings.public_publisher_url,
        settings.public_workspace_url,
        settings.public_tracker_url,
        settings.public_socket_url,
    ]
    return _POLICY.format(connect=" ".join(["'self'", *map(_origin, filter(None, services))]))


def _origin(url: str) -> str:
    """Return scheme, host and port of an address: a policy that names a path would forbid all others."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's files, then remove those of an earlier version. Each file is replaced at once."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for name in wanted:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        unfinished = target / f"{name}.new"
        shutil.copyfile(source / name, unfinished)
        unfinished.replace(target / name)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target) not in wanted:
            path.unlink()


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text)
    unfinished.replace(path)

"""The static files that a gateway serves over real sockets (beaconfire_gateway.process.static_files)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from yarl import URL

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.static_files import STRICT, check_folder
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway

BROWSER = {"Accept": "text/html,*/*"}


class Answer(NamedTuple):
    """A response to a GET."""

    status: int
    headers: dict[str, str]
    text: str


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Path:
    """A folder with a page, a page in a folder, and links that lead out of it."""
    site = tmp_path / "site"
    (site / "editor").mkdir(parents=True)
    (site / "index.html").write_text("home")
    (site / "editor" / "index.html").write_text("editor")
    (site / "editor" / "main.js").write_text("script")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    (site / "secret.txt").symlink_to(tmp_path / "secret.txt")
    (site / "outside").symlink_to(tmp_path / "outside")
    return site


async def get(gateway: Gateway, path: str, **headers: str) -> Answer:
    """Ask for a path exactly as it is written."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(URL(gateway.url + path, encoded=True), headers=headers) as answer,
    ):
        return Answer(answer.status, dict(answer.headers), await answer.text())


@asynccontextmanager
async def serving(stream: NatsServer, auth: FakeAuth, site: Path) -> AsyncIterator[Gateway]:
    """Run a gateway that serves a folder."""
    async with running_gateway(stream, auth, static_dir=site) as gateway:
        yield gateway


async def test_static_files_and_index_pages_are_served(stream: NatsServer, auth: FakeAuth, site: Path) -> None:
    async with serving(stream, auth, site) as gateway:
        answers = [await get(gateway, path) for path in ("/", "/index.html", "/editor/", "/editor/main.js")]

    assert [(one.status, one.text) for one in answers] == [
        (200, "home"),
        (200, "home"),
        (200, "editor"),
        (200, "script"),
    ]


async def test_static_files_have_the_headers_that_protect_browsers(
    stream: NatsServer, auth: FakeAuth, site: Path
) -> None:
    async with serving(stream, auth, site) as gateway:
        answer = await get(gateway, "/editor/main.js")

    headers = answer.headers
    assert headers["Content-Security-Policy"] == STRICT
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/editor/../../secret.txt",
        "/editor/..%2f..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/editor/%2e%2e/%2e%2e/secret.txt",
        "//etc/passwd",
        "/editor//etc/passwd",
        "/editor/%00",
        "/secret.txt",
        "/outside/secret.txt",
    ],
)
async def test_nothing_outside_the_static_folder_is_served(
    stream: NatsServer, auth: FakeAuth, site: Path, path: str
) -> None:
    """Neither by dots in the path nor by a symbolic link that leads out of the folder."""
    async with serving(stream, auth, site) as gateway:
        answer = await get(gateway, path)

    assert answer.status in (400, 404)
    assert "secret" not in answer.text.replace("secret.txt", "")


async def test_static_file_that_becomes_a_link_out_of_the_folder_is_not_served(
    stream: NatsServer, auth: FakeAuth, site: Path
) -> None:
    async with serving(stream, auth, site) as gateway:
        (site / "editor" / "main.js").unlink()
        (site / "editor" / "main.js").symlink_to(site.parent / "secret.txt")
        answer = await get(gateway, "/editor/main.js")

    assert answer.status == 404


async def test_static_folders_policy_is_sent_as_a_header_and_not_served(
    stream: NatsServer, auth: FakeAuth, site: Path
) -> None:
    (site / "content-security-policy.txt").write_text("default-src 'self' https://fonts.example\n")
    async with serving(stream, auth, site) as gateway:
        page, file = await get(gateway, "/"), await get(gateway, "/content-security-policy.txt")

    assert page.headers["Content-Security-Policy"] == "default-src 'self' https://fonts.example"
    assert file.status == 404


async def test_browsers_get_the_static_folders_own_page_for_an_unknown_address(
    stream: NatsServer, auth: FakeAuth, site: Path
) -> None:
    """Programs get the JSON that every service answers."""
    (site / "404.html").write_text("nothing at {path}, home is {home}")
    async with serving(stream, auth, site) as gateway:
        person, program = await get(gateway, "/a/%3Cb%3E", **BROWSER), await get(gateway, "/a/b")

    assert (person.status, person.text) == (404, "nothing at /a/&lt;b&gt;, home is ../")
    assert program.status == 404
    assert '"not_found"' in program.text


async def test_without_a_static_folder_there_is_no_page(gateway: Gateway) -> None:
    answer = await get(gateway, "/", **BROWSER)

    assert answer.status == 404
    assert '"not_found"' in answer.text


async def test_first_of_two_folders_counts_and_the_second_adds_what_it_lacks(
    stream: NatsServer, auth: FakeAuth, site: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "client").mkdir(parents=True)
    (other / "index.html").write_text("the other home")
    (other / "client" / "index.js").write_text("client")
    async with running_gateway(stream, auth, static_dir=f"{site}{os.pathsep}{other}") as gateway:
        answers = [await get(gateway, path) for path in ("/", "/client/index.js", "/editor/main.js")]

    assert [(one.status, one.text) for one in answers] == [(200, "home"), (200, "client"), (200, "script")]


async def test_hidden_files_are_not_served_except_well_known(stream: NatsServer, auth: FakeAuth, site: Path) -> None:
    for name in (".env", ".beaconfire/passwords.json", ".well-known/security.txt", "editor/.hidden"):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text("text")
    async with serving(stream, auth, site) as gateway:
        paths = ("/.env", "/.beaconfire/passwords.json", "/editor/.hidden", "/.well-known/security.txt")
        statuses = [(await get(gateway, path)).status for path in paths]

    assert statuses == [404, 404, 404, 200]


def test_static_policy_of_several_lines_stops_the_start(site: Path) -> None:
    """The policy is sent as a header, so a second line would be another header."""
    (site / "content-security-policy.txt").write_text("default-src 'self'\nX-Injected: yes")

    with pytest.raises(ValueError, match="has to be one line"):
        check_folder(site)

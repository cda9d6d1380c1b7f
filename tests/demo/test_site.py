"""The demo's page as a folder of static files (beaconfire_demo.site)."""

import json
from pathlib import Path

from beaconfire_demo.settings import DemoPerson, PageSettings
from beaconfire_demo.site import write_site


def test_demo_page_gets_the_services_addresses(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings(public_auth_url="http://auth.example"))

    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"authUrl": "http://auth.example", "publisherUrl": "", "socketUrl": "", "demo": []}


def test_demo_pages_policy_allows_only_its_services(tmp_path: Path) -> None:
    settings = PageSettings(public_auth_url="http://auth.example/path", public_socket_url="wss://live.example/ws")
    write_site(tmp_path, settings)

    policy = (tmp_path / "content-security-policy.txt").read_text()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["connect-src"] == "'self' http://auth.example wss://live.example"
    assert rules["default-src"] == "'self'"


def test_demo_page_offers_the_demo_people(tmp_path: Path) -> None:
    person = DemoPerson(name="Owner", email="owner@demo.example", password="p", hint="h")
    write_site(tmp_path, PageSettings(demo_people=(person,)))

    assert json.loads((tmp_path / "config.json").read_text())["demo"] == [person.model_dump()]


def test_demo_site_has_the_page_and_the_browser_client(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings())

    for name in ("index.html", "404.html", "page/main.js", "page/views/campaign.js", "client/index.js"):
        assert (tmp_path / name).is_file(), name


def test_demo_site_removes_files_of_an_earlier_version(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings())
    (tmp_path / "page" / "old.js").write_text("")
    write_site(tmp_path, PageSettings())

    assert not (tmp_path / "page" / "old.js").exists()
    assert not list(tmp_path.rglob("*.new"))

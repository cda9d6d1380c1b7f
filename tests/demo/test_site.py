"""The demo's pages as a folder of static files (beaconfire_demo.site)."""

import json
import re
from pathlib import Path

import pytest

from beaconfire_demo.applications import APPLICATIONS
from beaconfire_demo.settings import DemoPerson, PageSettings
from beaconfire_demo.site import write_site


def test_demo_page_gets_the_services_addresses(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings(public_auth_url="http://auth.example"))

    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "authUrl": "http://auth.example",
        "publisherUrl": "",
        "workspaceUrl": "",
        "trackerUrl": "",
        "socketUrl": "",
        "applications": [{"name": "campaign", "title": "Campaign"}],
        "demo": [],
    }


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


def test_each_application_has_its_page_and_the_first_one_is_at_the_top(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings(applications=("workspace", "campaign")))

    shared = ("index.html", "404.html", "page/application.js", "page/style.css", "client/index.js")
    own = [f"{name}/{file}" for name in ("campaign", "workspace") for file in ("index.html", "page/main.js")]
    for name in (*shared, *own, "campaign/page/views/campaign.js"):
        assert (tmp_path / name).is_file(), name
    assert 'src="workspace/page/main.js"' in (tmp_path / "index.html").read_text()
    assert 'src="../campaign/page/main.js"' in (tmp_path / "campaign" / "index.html").read_text()


def test_page_of_an_application_that_is_not_chosen_is_removed(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings(applications=("campaign", "workspace")))
    write_site(tmp_path, PageSettings(applications=("campaign",)))

    assert not (tmp_path / "workspace").exists()


def test_unknown_application_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'campain' is no application: it is one of campaign, workspace, tracker"):
        PageSettings(applications=("campain",))


def test_every_file_that_a_page_imports_is_in_the_site(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings(applications=tuple(APPLICATIONS)))

    modules = [path for path in tmp_path.rglob("*.js") if (tmp_path / "client") not in path.parents]
    for module in modules:
        for imported in re.findall(
            r'^(?:import|export) .*?from "(\.[^"]+)"', module.read_text(), re.MULTILINE | re.DOTALL
        ):
            assert (module.parent / imported).resolve().is_file(), f"{module}: {imported}"


def test_demo_site_removes_files_of_an_earlier_version(tmp_path: Path) -> None:
    write_site(tmp_path, PageSettings())
    (tmp_path / "page" / "old.js").write_text("")
    write_site(tmp_path, PageSettings())

    assert not (tmp_path / "page" / "old.js").exists()
    assert not list(tmp_path.rglob("*.new"))

"""`beaconfire up --catalogue FILE…` pushes fragments at start, and again whenever a file is saved."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.kit.fragments import document, note, with_root
from tests.tools.terminal import free_ports, run, terminal


def up(folder: Path, *arguments: str) -> list[str]:
    return [
        "up",
        "--port",
        str(free_ports()),
        "--data",
        str(folder / "data"),
        "--no-demo",
        "--gateways",
        "1",
        "--only",
        "campaign",
        *arguments,
    ]


def catalogue(folder: Path, *arguments: str) -> str:
    """Run a command of the catalogue against the running `up`."""
    done = run(folder, "catalogue", *arguments, "--data", str(folder / "data"))
    return done.text


def listed(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(catalogue(folder, "list", "--json"))
    return {one["name"]: one for one in found["fragments"]} | {"revision": found["revision"]}


def save(path: Path, fragment: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(fragment, sort_keys=False))


def test_fragments_are_pushed_at_start_and_again_when_saved(tmp_path: Path) -> None:
    """A new root, a new event and a broken file, while `up` runs: the last one changes nothing and names its line."""
    path = tmp_path / "logistics.yaml"
    save(path, document("logistics"))
    with terminal(tmp_path, *up(tmp_path, "--catalogue", str(path))) as one:
        one.wait_for("revision 2 of the catalogue counts from offset")

        save(path, with_root("logistics", "depot", "parcel.noted"))
        one.wait_for("revision 3 of the catalogue counts from offset")
        at_depot = listed(tmp_path)["logistics"]
        path.write_text(path.read_text().replace("depot.{depotId}", "live.{liveId}"))
        refusal = one.wait_for("the catalogue stays as it was")
        save(path, with_root("logistics", "depot", "parcel.noted") | {"info": {"title": "Better", "version": "2"}})
        one.wait_for("revision 4 of the catalogue counts from offset")
        better = listed(tmp_path)["logistics"]
        one.interrupt()
        assert one.ends() == 0, one.text

    assert (at_depot["roots"], [kind["name"] for kind in at_depot["types"]]) == (["depot"], ["parcel.noted"])
    assert "logistics.yaml:" in refusal
    assert better["title"] == "Better"


def test_a_root_declared_at_start_can_be_published_to(tmp_path: Path) -> None:
    """`up` starts with a fragment that has a root: the broker lets its publisher publish there at once."""
    path = tmp_path / "logistics.yaml"
    save(path, with_root("logistics", "depot", "parcel.noted"))
    with terminal(tmp_path, *up(tmp_path, "--catalogue", str(path))) as one:
        one.wait_for("revision 2 of the catalogue counts from offset")
        roots = json.loads((tmp_path / "data" / "running.json").read_text())["roots"]
        pushed = catalogue(tmp_path, "push", str(path))
        one.interrupt()
        one.ends()

    assert roots == ["depot"]
    assert "Nothing has changed: revision 2" in pushed


def test_a_push_to_a_running_up_adds_a_root_by_itself(tmp_path: Path) -> None:
    """`catalogue push` against `up` needs no password: it lets the broker and the stream take the root first."""
    path = tmp_path / "logistics.yaml"
    save(path, with_root("logistics", "depot", "parcel.noted"))
    with terminal(tmp_path, *up(tmp_path)) as one:
        one.wait_for("Ctrl-C stops everything")

        pushed = catalogue(tmp_path, "push", str(path))
        one.wait_for("the publisher may now publish in depot.>")
        found = listed(tmp_path)
        one.interrupt()
        one.ends()

    assert "Revision 2 counts" in pushed
    assert found["logistics"]["roots"] == ["depot"]


def test_up_does_not_start_with_a_broken_fragment(tmp_path: Path) -> None:
    """Nothing is started, and the error names the file and the line."""
    path = tmp_path / "logistics.yaml"
    path.write_text("asyncapi: 3.0.0\ninfo: {title: Logistics, version: '1'}\nchannels:\n  a:\n    address: live.x\n")

    refused = run(tmp_path, *up(tmp_path, "--catalogue", str(path)))

    assert "logistics.yaml:5: " in refused.text
    assert not (tmp_path / "data" / "nats").exists()


def test_a_file_saved_while_the_broker_is_down_is_pushed_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "logistics.yaml"
    save(path, document("logistics"))
    with terminal(tmp_path, *up(tmp_path, "--catalogue", str(path))) as one:
        one.wait_for("revision 2 of the catalogue counts from offset")

        run(tmp_path, "chaos", "kill", "broker", "--data", str(tmp_path / "data"))
        save(path, note("logistics", "parcel.noted"))

        one.wait_for("revision 3 of the catalogue counts from offset")
        one.interrupt()
        one.ends()

"""`beaconfire catalogue …` against a real broker with its permissions."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue_store import KV_STREAM
from beaconfire_kit.stream_setup import declare_stream
from tests.broker_changes import call_api
from tests.conftest import connected
from tests.kit.fragments import note, with_root
from tests.tools.conftest import Call, Said

Catalogue = Callable[..., Said]
"""`run("list", "--json")` runs `beaconfire catalogue list --json` as the broker user `catalogue`."""


@pytest.fixture(name="declared")
def _declared(nats_server: NatsServer) -> NatsServer:
    async def declare() -> None:
        async with connected(nats_server, "setup") as nc:
            await declare_stream(nc)

    asyncio.run(declare())
    return nats_server


@pytest.fixture(name="run")
def _run(call: Call, declared: NatsServer) -> Catalogue:
    def run(*arguments: str, user: str = "catalogue", **environment: str) -> Said:
        return call("catalogue", *arguments, **declared.environment(user), **environment)

    return run


def written(folder: Path, fragment: dict[str, Any], name: str = "fragment.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(fragment, sort_keys=False))
    return str(path)


def in_json(said: Said) -> Any:
    assert said.exit_code == 0, said.text
    return json.loads(said.text)


def test_a_fragment_is_pushed_and_listed(run: Catalogue, tmp_path: Path) -> None:
    """A push says from which offset it counts, and `list` shows its types."""
    pushed = run("push", written(tmp_path, note("logistics", "parcel.noted")))

    assert pushed.exit_code == 0
    assert "Revision 2 counts from offset" in pushed.text
    listed = run("list")
    assert "parcel.noted" in listed.text
    assert "settlement_updated" in listed.text
    found = in_json(run("list", "--json"))
    assert found["revision"] == 2
    assert [one["name"] for one in found["fragments"]] == ["campaign", "workspace", "user", "logistics"]
    assert found["fragments"][3]["types"] == [{"name": "parcel.noted", "version": 1}]


def test_a_second_push_of_the_same_file_changes_nothing(run: Catalogue, tmp_path: Path) -> None:
    path = written(tmp_path, note("logistics"))
    run("push", path)

    again = run("push", path)

    assert (again.exit_code, again.text.strip()) == (0, "Nothing has changed: revision 2 is like this already.")


def test_several_files_are_one_revision(run: Catalogue, tmp_path: Path) -> None:
    files = [written(tmp_path, note(name, f"{name}.noted"), f"{name}.yaml") for name in ("logistics", "billing")]

    pushed = in_json(run("push", "--json", *files))

    assert pushed["revision"] == 2


def test_a_dry_run_changes_nothing(run: Catalogue, tmp_path: Path) -> None:
    checked = run("push", "--dry-run", written(tmp_path, note("logistics")))

    assert (checked.exit_code, "would be accepted" in checked.text) == (0, True)
    assert in_json(run("list", "--json"))["revision"] == 1


def test_a_broken_fragment_is_refused_with_file_line_and_pointer(run: Catalogue, tmp_path: Path) -> None:
    """The error names the line of the part that is wrong, and nothing is pushed."""
    fragment = note("logistics")
    fragment["channels"]["notes"]["address"] = "depot.{depotId}.note.{noteId}.{again"
    path = written(tmp_path, fragment)
    line = Path(path).read_text().splitlines().index("    address: depot.{depotId}.note.{noteId}.{again") + 1

    refused = run("push", path)

    assert refused.exit_code == 1
    assert f"{path}:{line}: " in refused.text
    assert "(at /channels/notes/address)" in refused.text
    assert in_json(run("list", "--json"))["revision"] == 1


def test_problems_of_all_files_are_reported_at_once(run: Catalogue, tmp_path: Path) -> None:
    files = [written(tmp_path, {"asyncapi": "2.0.0"}, f"{name}.yaml") for name in ("one", "two")]

    refused = run("push", *files)

    assert refused.exit_code == 1
    assert "one.yaml:1: " in refused.text
    assert "two.yaml:1: " in refused.text


def test_a_type_of_another_fragment_is_refused_with_the_line(run: Catalogue, tmp_path: Path) -> None:
    """The push that clashes is refused against what the broker has, and names the line in the file."""
    run("push", written(tmp_path, note("logistics")))

    refused = run("push", written(tmp_path, note("billing"), "billing.yaml"))

    assert refused.exit_code == 1
    assert "billing.yaml:" in refused.text
    assert "belongs to the fragment `logistics`" in refused.text


def test_a_root_is_added_to_the_stream_before_the_push(run: Catalogue, tmp_path: Path, declared: NatsServer) -> None:
    """With the password of `setup`, the stream takes the root's events and then the fragment is pushed."""
    path = written(tmp_path, with_root("logistics", "depot"))

    pushed = run("push", path, BEACONFIRE_SETUP_PASSWORD=declared.passwords["setup"])

    assert pushed.exit_code == 0, pushed.text
    assert in_json(run("list", "--json"))["fragments"][3]["roots"] == ["depot"]


def test_a_root_without_the_setup_password_says_what_to_run(
    run: Catalogue, call: Call, declared: NatsServer, tmp_path: Path
) -> None:
    path = written(tmp_path, with_root("logistics", "depot"))

    refused = run("push", path)

    assert refused.exit_code == 1
    assert "BEACONFIRE_SETUP_PASSWORD" in refused.text
    assert "beaconfire setup --root depot" in refused.text
    assert call("setup", "--root", "depot", **declared.environment("setup")).exit_code == 0
    assert run("push", path).exit_code == 0


def test_setup_pushes_fragments_with_their_roots(call: Call, nats_server: NatsServer, tmp_path: Path) -> None:
    path = written(tmp_path, with_root("logistics", "depot"))

    done = call("setup", "--no-builtin", "--catalogue", path, **nats_server.environment("setup"))

    assert done.exit_code == 0, done.text
    found = in_json(call("catalogue", "list", "--json", **nats_server.environment("catalogue")))
    assert [one["name"] for one in found["fragments"]] == ["logistics"]


def test_a_fragment_is_shown_as_it_was_pushed(run: Catalogue, tmp_path: Path) -> None:
    """`show` prints the document, which can be pushed again, and a table of the fragment's types."""
    fragment = note("logistics", "parcel.noted")
    run("push", written(tmp_path, fragment))

    assert in_json(run("show", "logistics", "--json")) == fragment
    assert yaml.safe_load(run("show", "logistics", "--yaml").text) == fragment
    assert "user.{userId}.note.{noteId}" in run("show", "logistics").text
    assert '"text"' in run("show", "parcel.noted").text
    assert in_json(run("show", "parcel.noted", "--json"))[0]["version"] == 1


def test_showing_what_is_not_there_names_what_is(run: Catalogue) -> None:
    refused = run("show", "logistics")

    assert refused.exit_code == 1
    assert "The fragments are campaign, workspace, user" in refused.text


def test_a_fragment_is_removed_after_a_question(run: Catalogue, tmp_path: Path) -> None:
    run("push", written(tmp_path, note("logistics")))

    assert run("remove", "logistics", "--yes").exit_code == 0
    assert "logistics" not in [one["name"] for one in in_json(run("list", "--json"))["fragments"]]


def test_a_rollback_brings_a_removed_fragment_back(run: Catalogue, tmp_path: Path) -> None:
    run("push", written(tmp_path, note("logistics")))
    run("remove", "logistics", "--yes")

    back = run("rollback", "2")

    assert "Revision 4 counts" in back.text
    assert "logistics" in [one["name"] for one in in_json(run("list", "--json"))["fragments"]]
    history = in_json(run("list", "--revisions", "--json"))
    assert [(one["revision"], one["about"]) for one in history] == [
        (4, "rollback to 2"),
        (3, "remove logistics"),
        (2, "push logistics"),
        (1, "built-in fragments"),
    ]
    assert "rollback to 2" in run("list", "--revisions").text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rollback", "77"), "no revision 77"),
        (("remove", "logistics", "--yes"), "no fragment 'logistics'"),
        (("show", "user", "--revision", "77"), "no revision 77"),
        (("push", "missing.yaml"), "missing.yaml: cannot be read"),
        (("push",), "give files, or a Python module"),
        (("push", "--python", "beaconfire_kit.events.campaign"), "--python needs --name"),
        (("push", "--python", "no.such.module", "--name", "x"), "cannot be imported"),
        (("push", "--python", "json", "--name", "x"), "has no event class"),
    ],
)
def test_a_mistake_is_reported_in_a_sentence(run: Catalogue, arguments: tuple[str, ...], sentence: str) -> None:
    refused = run(*arguments)

    assert refused.exit_code in (1, 2)
    assert sentence in " ".join(refused.text.split())


def test_event_classes_of_a_module_are_pushed(run: Catalogue, declared: NatsServer, tmp_path: Path) -> None:
    """Classes in a module of the current folder become a fragment."""
    (tmp_path / "stockroom_events.py").write_text(
        "from beaconfire_kit.event import Event, Id\n\n\n"
        "class ShelfEmptied(Event):\n"
        '    """A shelf has nothing left."""\n\n'
        '    type = "shelf.emptied"\n'
        '    subject = "user.{user_id}.shelf.{shelf_id}"\n\n'
        "    user_id: Id\n"
        "    shelf_id: Id\n"
    )
    command = [sys.executable, "-m", "beaconfire", "catalogue", "push", "--python", "stockroom_events"]

    # In a process of its own, because its class would stay among the event classes of this one.
    pushed = subprocess.run(
        [*command, "--name", "stockroom"],
        cwd=tmp_path,
        env={**os.environ, **declared.environment("catalogue")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert pushed.returncode == 0, pushed.stderr
    assert "A shelf has nothing left." in run("show", "shelf.emptied").text


def test_a_lost_bucket_is_restored_from_files(run: Catalogue, call: Call, declared: NatsServer, tmp_path: Path) -> None:
    """The bucket is lost: every command says what to run, and `restore` names the file that is missing."""
    path = written(tmp_path, note("logistics"))
    run("push", path)
    asyncio.run(call_api(declared, f"STREAM.DELETE.{KV_STREAM}"))

    assert "beaconfire setup" in run("list").text
    assert call("setup", **declared.environment("setup")).exit_code in (0, 1)
    incomplete = run("restore")
    restored = run("restore", path)

    assert incomplete.exit_code == 1
    assert "logistics as of revision 2" in incomplete.text
    assert "Restored: 1, 2. Revision 2 counts now." in restored.text
    assert in_json(run("list", "--json"))["revision"] == 2


@pytest.mark.parametrize("user", ["publisher", "operator", "gateway"])
def test_a_user_who_may_not_push_is_told_so(run: Catalogue, tmp_path: Path, user: str) -> None:
    refused = run("push", written(tmp_path, note("logistics")), user=user)

    assert refused.exit_code == 1
    assert "may not publish on" in refused.text


def test_a_broker_that_is_away_is_reported_in_time(run: Catalogue, declared: NatsServer, tmp_path: Path) -> None:
    path = written(tmp_path, note("logistics"))
    declared.kill()

    refused = run("push", path, "--timeout", "1")

    assert refused.exit_code == 1
    assert "did not answer within 1 s" in refused.text
    assert "Nothing was changed" in refused.text


def test_a_broker_that_is_away_is_logged_once_and_not_in_the_output(declared: NatsServer) -> None:
    declared.kill()

    said = subprocess.run(
        [sys.executable, "-m", "beaconfire", "catalogue", "list", "--json", "--timeout", "2"],
        env={**os.environ, **declared.environment("catalogue")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.count("broker client reports") == 1
    assert "did not answer within 2 s" in said.stderr


def test_an_empty_catalogue_says_what_to_run(call: Call, nats_server: NatsServer) -> None:
    call("setup", "--no-builtin", **nats_server.environment("setup"))

    empty = call("catalogue", "list", **nats_server.environment("catalogue"))

    assert empty.exit_code == 1
    assert "`beaconfire setup` pushes the built-in fragments" in empty.text


def test_a_fragment_is_read_from_the_standard_input(
    run: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, note("logistics"))
    with Path(path).open() as file:
        monkeypatch.setattr("sys.stdin", file)

        pushed = run("push", "-")

    assert pushed.exit_code == 0, pushed.text


def test_a_change_that_breaks_events_is_refused_with_its_line(run: Catalogue, tmp_path: Path) -> None:
    """A narrower bound: the push names the line of the bound and what to do instead. `diff` says the same."""
    run("push", written(tmp_path, note("logistics", longest=100)))
    path = written(tmp_path, note("logistics", longest=50))
    line = next(number for number, text in enumerate(Path(path).read_text().splitlines(), 1) if "maxLength: 50" in text)

    refused = run("push", path)
    compared = run("diff", path)

    assert refused.exit_code == 1
    assert f"{path}:{line}: `note.written` version 1: " in refused.text
    assert "declare version 2 beside it" in refused.text
    assert f"! {path}:{line}: " in compared.text


def test_a_removal_needs_an_option(run: Catalogue, tmp_path: Path) -> None:
    run("push", written(tmp_path, note("logistics", "note.written", "note.read")))
    path = written(tmp_path, note("logistics", "note.written"))

    refused = run("push", path)
    removed = run("push", path, "--allow-removals")

    assert (refused.exit_code, removed.exit_code) == (1, 0)
    assert "logistics: `note.read` version 1 is removed." in refused.text
    assert "- `note.read` version 1 is removed." in removed.text


def test_a_diff_of_files_and_of_revisions_says_what_changes(run: Catalogue, tmp_path: Path) -> None:
    run("push", written(tmp_path, note("logistics", "note.written")))
    path = written(tmp_path, note("logistics", "note.written", "note.read", longest=200))

    before = in_json(run("diff", path, "--json"))
    run("push", path)

    assert [len(before["logistics"][kind]) for kind in ("added", "changed", "removed", "breaks")] == [1, 1, 0, 0]
    assert in_json(run("diff", "2", "3", "--json")) == before
    assert in_json(run("diff", "2", "--json")) == before
    assert "+ `note.read` version 1 is new." in run("diff", "2").text
    assert "No event and no root is different." in run("diff", path).text
    assert run("diff", "2", path).exit_code == 2

"""`beaconfire root`, `member`, `user` and `send` against a running `up`."""

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from beaconfire.api import call as call_api
from beaconfire.data_folder import DataFolder
from beaconfire.operating import auth_operator
from tests.tools.conftest import Call, Said
from tests.tools.terminal import free_ports, terminal

SECRET = "a-secret-of-an-issuer-that-has-32-bytes"
SHOP = {"name": "shop", "issuer": "https://shop.example", "audience": "beaconfire"}
ISSUER = {"name": "acme", "issuer": "https://id.example", "jwksUrl": "http://127.0.0.1:1/", "audience": "beaconfire"}


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of an `up` that runs, without the demo, with an outside issuer."""
    folder = tmp_path_factory.mktemp("up")
    data = folder / "data"
    (folder / "shop-secret").write_text(SECRET)
    shop = {**SHOP, "secretFiles": [os.path.relpath(folder / "shop-secret")]}
    issuers = {"BEACONFIRE_OUTSIDE_ISSUERS": json.dumps([ISSUER, shop])}
    options = ("--port", str(free_ports()), "--data", str(data), "--gateways", "1", "--no-demo", "--only", "campaign")
    with terminal(folder, "up", *options, **issuers) as one:
        one.wait_for("Open")
        yield data


class Commands:
    """Runs commands on the running `up`."""

    def __init__(self, call: Call, data: Path) -> None:
        self.call = call
        self.data = data

    def __call__(self, *arguments: str, **environment: str) -> Said:
        return self.call(*arguments, "--data", str(self.data), **environment)

    def members(self, root: str) -> dict[str, str]:
        said = self("member", "list", root, "--json")
        return {one["userId"]: one["role"] for one in json.loads(said.text)}


@pytest.fixture(name="run")
def _run(call: Call, data: Path) -> Commands:
    return Commands(call, data)


def test_root_is_created_listed_shown_and_deleted(run: Commands) -> None:
    first = run("root", "create", "workspace:r1", "--owner", "acme-42")
    again = run("root", "create", "workspace:r1", "--issuer", "acme", "--sub", "42")
    other = run("root", "create", "workspace:r1", "--owner", "acme-43")
    listed = run("root", "list", "workspace", "--json")
    shown = run("root", "show", "workspace:r1")
    deleted = run("root", "delete", "workspace:r1", "--yes")

    assert (first.text, again.text) == ("workspace:r1 is created.\n", "The user owns workspace:r1 already.\n")
    assert (other.exit_code, "has members already" in other.text) == (1, True)
    assert {"root": "workspace:r1", "members": 1} in json.loads(listed.text)
    assert shown.text == "workspace:r1 has 1 owner, 0 editors, 0 viewers.\nowner acme-42\n"
    assert deleted.text == "1 member removed\n"
    assert run.members("workspace:r1") == {}


def test_member_is_put_listed_and_removed(run: Commands) -> None:
    put = run("member", "put", "workspace:m1", "acme-42", "--role", "editor")
    again = run("member", "put", "workspace:m1", "--issuer", "acme", "--sub", "42", "--role", "editor")
    listed = run("member", "list", "workspace:m1")
    removed = run("member", "remove", "workspace:m1", "acme-42")

    assert put.text == "acme-42 is editor of workspace:m1.\n"
    assert again.text == "acme-42 was already editor of workspace:m1.\n"
    assert "never connected" in listed.text
    assert removed.text == "acme-42 is no member of workspace:m1 now.\n"
    assert run("member", "list", "workspace:m1").text == "workspace:m1 has no members.\n"
    assert (removed.exit_code, run.members("workspace:m1")) == (0, {})


def test_csv_with_wrong_lines_imports_the_others_and_names_each_wrong_line(run: Commands, tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text(
        "root,user,role\n"
        "workspace:i1,acme-1,owner\n"
        "workspace:i1,acme-2,king\n"
        "\n"
        "workspace:i1,nobody,viewer\n"
        '"workspace:i1","acme-3",viewer\n'
        "workspace:i1,acme-4\n"
        "workspace,acme-5,viewer\n"
        "workspace:i1,,viewer\n"
        "workspace:i1,acme-6,\n"
        "workspace:i1,acme-1,none\n"
    )
    planned = run("member", "import", str(file), "--dry-run")
    empty = run.members("workspace:i1")
    imported = run("member", "import", str(file))
    again = run("member", "import", str(file), "--json")

    assert "9 lines: 3 would change, 0 unchanged, 6 refused" in planned.text
    assert empty == {}
    assert "9 lines: 3 changed, 0 unchanged, 6 refused" in imported.text
    assert imported.exit_code == 1
    told = {
        line.rpartition(f"{file}:")[2].partition(":")[0] for line in imported.text.splitlines() if str(file) in line
    }
    assert told == {"3", "5", "7", "8", "9", "10"}
    assert [error["line"] for error in json.loads(again.text)["errors"]] == [3, 5, 7, 8, 9, 10]
    assert run.members("workspace:i1") == {"acme-3": "viewer"}


def test_kind_that_the_catalogue_lacks_is_refused_per_line_and_without_talk_of_tokens(
    run: Commands, tmp_path: Path
) -> None:
    """A line with an unknown kind of root stops no other line."""
    file = tmp_path / "members.csv"
    file.write_text("root,user,role\ntruck:t1,acme-1,owner\nworkspace:i2,acme-1,owner\n")
    imported = run("member", "import", str(file))

    assert f"{file}:2: 'truck' is not a kind of root in the catalogue" in imported.text
    assert "2 lines: 1 changed, 0 unchanged, 1 refused" in imported.text
    assert run.members("workspace:i2") == {"acme-1": "owner"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "root,issuer,sub,role\nworkspace:NAME,acme,1,viewer\nworkspace:NAME,https://id.example,2,owner\n"),
        ("b.csv", "\ufeffrole;root;user\r\nviewer;workspace:NAME;acme-1\r\nowner;workspace:NAME;acme-2\r\n"),
        (
            "c.json",
            '[\n {"root": "workspace:NAME", "user": "acme-1", "role": "viewer"},\n'
            ' {"root": "workspace:NAME", "issuer": "acme", "sub": "2", "role": "owner"}\n]\n',
        ),
        (
            "d.jsonl",
            '{"root": "workspace:NAME", "userId": "acme-1", "role": "viewer"}\n\n'
            '{"root": "workspace:NAME", "userId": "acme-2", "role": "owner"}\n',
        ),
    ],
)
def test_every_format_is_imported(run: Commands, tmp_path: Path, name: str, content: str) -> None:
    root = f"form-{name[0]}"
    (tmp_path / name).write_text(content.replace("NAME", root))
    said = run("member", "import", str(tmp_path / name))

    assert said.text == "2 lines: 2 changed, 0 unchanged, 0 refused\n"
    assert run.members(f"workspace:{root}") == {"acme-1": "viewer", "acme-2": "owner"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"root,who,role\n", ":1: 'who' is no column"),
        ("a.csv", b'root,user,role\nworkspace:w1,"acme-1,viewer\n', "a.csv:"),
        ("a.csv", b"root,user,role\nworkspace:w1,\xff,viewer\n", ":2: this is not UTF-8"),
        ("a.json", b"{}", ":1: expected a JSON list"),
        ("a.json", b"[\n{},\n]", ":3: expected another member"),
        ("a.json", b"[\n{}\n{}]", ":3: expected , or ]"),
        ("a.json", b'[\n{"root": }]', ":2: not JSON"),
        ("a.json", b"[] []", ":1: expected nothing after"),
        ("a.txt", b"", "--format"),
        ("none.csv", None, "No such file"),
    ],
)
def test_file_that_is_none_of_members_is_refused_with_file_and_line(
    run: Commands, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = run("member", "import", str(tmp_path / name))

    assert said.exit_code == 1
    assert says in said.text
    assert said.text.startswith("error: ")


def test_ten_thousand_lines_are_imported(run: Commands, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    rows = [f"workspace:big{number % 7},acme-{number},viewer" for number in range(10_000)]
    file.write_text("\n".join(["root,user,role", *rows]))
    said = run("member", "import", str(file))

    assert said.text == "10,000 lines: 10,000 changed, 0 unchanged, 0 refused\n"
    assert len(run.members("workspace:big0")) == 1_429


def test_interrupted_import_is_continued_by_running_it_again(run: Commands, tmp_path: Path) -> None:
    file = tmp_path / "half.csv"
    lines = [f"workspace:half,acme-{number},viewer" for number in range(1_000)]
    file.write_text("\n".join(["root,user,role", *lines[:500]]))
    run("member", "import", str(file))
    file.write_text("\n".join(["root,user,role", *lines]))
    said = run("member", "import", str(file))

    assert said.text == "1,000 lines: 500 changed, 500 unchanged, 0 refused\n"


def test_import_that_auth_refuses_says_at_which_line_it_stopped(run: Commands, tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text("root,user,role\nworkspace:w1,acme-1,viewer\n")
    auth = DataFolder(run.data).running().auth_url
    said = run.call("member", "import", str(file), "--auth", auth, "--service-token", "nonsense")

    assert said.exit_code == 1
    assert f"stopped at {file}:2: " in said.text
    assert "Run the command again to continue" in said.text


def test_token_is_explained_with_the_issuers_of_the_running_up(
    run: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is needed in the terminal of `up` only, and its secret files are found from any folder."""
    monkeypatch.chdir(tmp_path)
    now = int(time.time())
    claims = {"iss": SHOP["issuer"], "aud": "beaconfire", "sub": "7", "iat": now, "exp": now + 600}
    explained = run("token", "explain", jwt.encode(claims, SECRET))

    assert explained.exit_code == 0
    assert "Accepted as the user shop-7" in explained.text


def test_user_is_disconnected_and_revoked(run: Commands) -> None:
    user = ("--issuer", "acme", "--sub", "77")
    assert run("user", "disconnect", *user).exit_code == 0
    assert run("user", "revoke", *user).exit_code == 0
    assert run("user", "revoke", "acme-77", "--root", "workspace:w1").exit_code == 0
    assert "no such user" in run("user", "revoke", "nobody").text


def test_token_of_a_command_is_kept_privately_and_issued_again_once_it_was_revoked(run: Commands) -> None:
    run("root", "list", "campaign")
    file = run.data / "tokens.json"
    kept = json.loads(file.read_text())
    run("root", "list", "campaign")
    same = json.loads(file.read_text())
    operator = auth_operator(DataFolder(run.data), None, None)
    for token in operator.get("service-tokens")["serviceTokens"]:
        operator.delete(f"service-tokens/{token['id']}")
    after = run("root", "list", "campaign")
    renewed = json.loads(file.read_text())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert same == kept
    assert after.exit_code == 0
    assert renewed["campaign.*.member.*"] != kept["campaign.*.member.*"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("member", "put", "workspace", "acme-1"), 1, "kind:id"),
        (("member", "put", "nonsense:x", "acme-1"), 1, "nonsense"),
        (("member", "put", "workspace:w1"), 2, "either USER, or --issuer and --sub"),
        (("member", "put", "workspace:w1", "acme-1", "--issuer", "acme"), 2, "either USER"),
        (("member", "put", "workspace:w1", "--issuer", "other", "--sub", "1"), 1, "It knows acme"),
        (("root", "create", "workspace:w1"), 2, "either --owner"),
        (("root", "create", "workspace:w1", "--owner", "nobody"), 1, "no such user"),
        (("member", "import", "members.csv", "--format", "xml"), 2, "csv, json or jsonl"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(
    run: Commands, arguments: tuple[str, ...], code: int, says: str
) -> None:
    said = run(*arguments)

    assert said.exit_code == code
    assert says in said.text


def test_without_a_running_up_the_missing_options_are_named(call: Call, tmp_path: Path) -> None:
    said = call("root", "list", "workspace", "--data", str(tmp_path / "none"))

    assert said.exit_code == 1
    assert "or give --auth and --service-token" in said.text


def test_given_token_and_address_need_no_data_folder(run: Commands, tmp_path: Path) -> None:
    issued = auth_operator(DataFolder(run.data), None, None).post(
        "service-tokens", {"service": "backend", "publish": ["workspace.*.member.*"]}
    )
    auth = DataFolder(run.data).running().auth_url
    put = run.call(
        *("member", "put", "workspace:g1", "acme-1", "--auth", auth, "--data", str(tmp_path / "none")),
        BEACONFIRE_SERVICE_TOKEN=issued["token"],
    )
    seen = call_api("GET", f"{auth}/auth/roots/workspace:g1/members", token=issued["token"])

    assert put.exit_code == 0, put.text
    assert [member["userId"] for member in seen["members"]] == ["acme-1"]


TYPING = ("send", "user.typing", '{"userId": "u1"}')


def test_event_is_sent_without_a_token_on_the_machine_of_up(run: Commands) -> None:
    first = run(*TYPING, "--to", "workspace:w1", "--to", "workspace:w2/chat:h1")
    revoked = [one["id"] for one in _service_tokens(run) if one["publish"] == ["workspace.>"]]
    for token_id in revoked:
        run("service-token", "revoke", token_id)
    second = run(*TYPING, "--to", "workspace:w1")

    assert (first.exit_code, first.text.endswith("to 2 rooms; it is stored nowhere\n")) == (0, True), first
    assert len(revoked) == 1
    assert (second.exit_code, second.text.endswith("to 1 room; it is stored nowhere\n")) == (0, True), second


def _service_tokens(run: Commands) -> list[dict[str, Any]]:
    return list(json.loads(run("service-token", "list", "--json").text))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (TYPING, "say to which rooms: --to workspace:w1"),
        ((*TYPING, "--to", "workspace"), "is not kind:id"),
        ((*TYPING, "--to", "chat:h1"), "is not a kind of root in the catalogue"),
        ((*TYPING, "--to", "user:u1"), "user:u1 is no room of user.typing"),
        (("send", "user.typing", "{", "--to", "workspace:w1"), "the payload is not JSON"),
        (("send", "user.typin", "{}", "--to", "workspace:w1"), "did you mean user.typing"),
        (("send", "chat.message", "{}", "--to", "workspace:w1"), "is stored, so it is published"),
    ],
)
def test_wrong_send_is_refused_with_a_sentence(run: Commands, arguments: tuple[str, ...], why: str) -> None:
    said = run(*arguments)

    assert said.exit_code == 1
    assert why in said.text
    assert "Traceback" not in said.text

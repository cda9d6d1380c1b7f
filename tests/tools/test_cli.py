"""The commands against a running `up`, and what they say about bad input."""

import asyncio
import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
import typer

from beaconfire import demo
from beaconfire.api import ApiError
from beaconfire.api import call as call_api
from beaconfire.cli import app
from beaconfire.data_folder import DataFolder
from beaconfire.diagnosis import DURABLES
from beaconfire_kit import tokens
from beaconfire_kit.received import read
from tests.conftest import At, connected
from tests.kit.fragments import note, with_root
from tests.tools.conftest import Call
from tests.tools.terminal import PATIENCE_S, Terminal, free_ports, run, terminal

ROOT = Path(__file__).parents[2]
OWNER, EDITOR, VIEWER, STRANGER = (person.email for person in demo.PEOPLE)


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of an `up` that runs, with the demo in it."""
    folder = tmp_path_factory.mktemp("up")
    data = folder / "data"
    options = ("--port", str(free_ports()), "--data", str(data), "--gateways", "1", "--only", "campaign")
    with terminal(folder, "up", *options) as one:
        one.wait_for("Open")
        yield data


@pytest.fixture(name="campaign")
def _campaign(data: Path) -> str:
    """The demo campaign's id."""
    return str(json.loads((data / "demo.json").read_text())["campaign"])


def command(data: Path, name: str, *arguments: str) -> Terminal:
    """A command that ends without a signal, on the running set."""
    one = run(data.parent, name, *arguments, "--data", str(data))
    assert "Traceback" not in one.text
    return one


def update(campaign: str) -> tuple[str, str, str]:
    """Arguments of `publish` for an event of a campaign."""
    payload = {"campaignId": campaign, "settlementId": "s1", "operation": "update", "changedFields": ["level"]}
    return f"campaign.{campaign}.settlement.s1", "settlement_updated", json.dumps(payload)


def test_token_command_prints_only_an_access_token(data: Path) -> None:
    one = command(data, "token", "--email", OWNER)

    assert one.process.exit_code == 0
    assert len(one.seen) == 1
    assert one.seen[0].count(".") == 2


def test_wrong_password_is_reported_in_a_sentence_with_exit_code_1(data: Path) -> None:
    one = command(data, "token", "--email", OWNER, "--password", "not that one")

    assert one.process.exit_code == 1
    assert one.text.startswith("error: ")


def test_published_event_is_printed_by_listen_with_its_offset(data: Path, campaign: str) -> None:
    with terminal(data.parent, "listen", f"campaign:{campaign}", "--email", VIEWER, "--data", str(data)) as listener:
        listener.wait_for("listening to")

        published = command(data, "publish", *update(campaign))

        line = listener.wait_for("settlement_updated")
        assert published.text == f"offset {line.split()[0]}"
        assert "changedFields=" in line


def test_publish_finds_the_subject_in_the_payload_and_reads_the_payload_from_a_file_or_the_input(
    data: Path, campaign: str, tmp_path: Path
) -> None:
    _, type_, payload = update(campaign)
    (tmp_path / "payload.json").write_text(payload)
    words = [sys.executable, "-m", "beaconfire", "publish", "--data", str(data), type_]

    told = [
        subprocess.run([*words, *more], input=payload, capture_output=True, text=True, check=True).stdout
        for more in ([payload], [f"@{tmp_path / 'payload.json'}"], ["-"], [])
    ]

    assert [one.split()[0] for one in told] == ["offset"] * 4
    offsets = [int(one.split()[1]) for one in told]
    assert offsets == sorted(set(offsets))


def test_publish_without_a_payload_or_with_a_file_that_is_not_there_says_what_to_give(data: Path) -> None:
    words = [sys.executable, "-m", "beaconfire", "publish", "--data", str(data), "world_time_changed"]
    empty = subprocess.run(words, input="", capture_output=True, text=True, check=False)
    missing = command(data, "publish", "world_time_changed", "@no-such.json")

    assert (empty.returncode, "there is no payload: give a JSON object" in empty.stderr) == (1, True)
    assert "the payload's file no-such.json cannot be read: No such file or directory" in missing.text


def test_publish_takes_a_type_that_was_pushed_a_moment_ago_and_sends_its_payload_as_it_was_written(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "logistics.json").write_text(json.dumps(note("logistics", "parcel.noted", root="workspace")))
    words = ("workspace.w1.note.n1", "parcel.noted", '{ "text": "Hi",  "size": 1.50 }')
    unknown = command(data, "publish", *words)
    pushed = command(data, "catalogue", "push", str(tmp_path / "logistics.json"))
    published = command(data, "publish", *words)
    offset = int(published.text.split()[1])
    message = asyncio.run(stored(data, offset))

    assert "unknown_type" in unknown.text
    assert pushed.process.exit_code == 0, pushed.text
    assert f'"payload":{words[2]},' in message


def test_event_below_a_root_that_only_the_catalogue_declares_is_published_over_nats_and_over_http(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "depots.json").write_text(json.dumps(with_root("depots", "depot", "depot.noted")))
    pushed = command(data, "catalogue", "push", str(tmp_path / "depots.json"))
    published = command(data, "publish", "depot.d1.note.n1", "depot.noted", '{"text": "over NATS"}')
    token = command(data, "service-token", "issue", "depots", "depot.*.note.*").seen[-1]
    event = {"id": "e1", "type": "depot.noted", "subject": "depot.d1.note.n1", "payload": {"text": "over HTTP"}}
    url = f"{DataFolder(data).running().publisher_url}/v1/events"
    while "offset" not in (answer := call_api("POST", url, event, token=token)):
        pass  # it is stored, and the broker has not acknowledged it yet

    assert pushed.process.exit_code == 0, pushed.text
    assert "over NATS" in asyncio.run(stored(data, int(published.text.split()[1])))
    assert "over HTTP" in asyncio.run(stored(data, int(answer["offset"].split(":")[1])))


async def stored(data: Path, offset: int) -> str:
    """The body of a message of the stream."""
    folder = DataFolder(data)
    password, inbox = folder.passwords()["gateway"], b"_INBOX_gateway"
    nc = await nats.connect(folder.running().nats_url, user="gateway", password=password, inbox_prefix=inbox)
    asked = json.dumps({"seq": offset}).encode()
    answer = json.loads((await nc.request("$JS.API.STREAM.MSG.GET.EVENTS", asked)).data)
    await nc.drain()
    return base64.b64decode(answer["message"]["data"]).decode()


def test_listen_json_prints_each_event_frame_as_one_line(data: Path, campaign: str) -> None:
    room = f"campaign:{campaign}/settlement:s1"
    with terminal(data.parent, "listen", room, "--email", EDITOR, "--json", "--data", str(data)) as listener:
        listener.wait_for("listening to")

        command(data, "publish", *update(campaign), "--source", "test")

        frame = json.loads(listener.wait_for("settlement_updated"))
        assert frame["type"] == "event"
        assert frame["rooms"] == [f"campaign:{campaign}", f"campaign:{campaign}/settlement:s1"]
        assert frame["event"]["metadata"]["source"] == "test"


def test_listen_accepts_a_token_of_the_token_command(data: Path, campaign: str) -> None:
    token = command(data, "token", "--email", VIEWER).text

    with terminal(data.parent, "listen", f"campaign:{campaign}", "--token", token, "--data", str(data)) as listener:
        listener.wait_for("listening to")
        listener.interrupt()
        assert listener.ends() == 130
        assert "Traceback" not in listener.text


def test_listen_to_a_forbidden_room_ends_with_a_sentence(data: Path, campaign: str) -> None:
    one = command(data, "listen", f"campaign:{campaign}", "--email", STRANGER)

    assert one.process.exit_code == 1
    assert f"cannot listen to campaign:{campaign}" in one.text
    assert "error: no room is left" in one.text


def test_listen_with_an_invalid_token_ends_at_once_with_a_sentence(data: Path) -> None:
    one = command(data, "listen", "campaign:c1", "--token", "nonsense")

    assert one.process.exit_code == 1
    assert "4401" in one.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("campaign.c1.settlement.s1", "settlement_updated", "{"), "not JSON"),
        (("campaign.c1.settlement.s1", "settlement_updated", "@/no/such/file"), "cannot be read"),
        (("campaign.*.settlement.s1", "settlement_updated", "{}"), "is not an id"),
        (("tick.p1", "settlement_updated", "{}"), "which is reserved"),
        (("campaign.c1.member.u1", "member_changed", "{}"), "only auth may publish"),
        (("a", "b", "c", "d"), "give a type and a payload"),
    ],
)
def test_publish_refuses_a_malformed_subject_or_payload_without_asking_the_broker(
    call: Call, arguments: tuple[str, ...], said: str
) -> None:
    one = call("publish", *arguments, "--data", "/nowhere")

    assert one.exit_code == 1
    assert one.text.startswith("error: ")
    assert said in one.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("campaign.c1.settlement.s1", "settlement_updated", "[]"), "payload: expected an object"),
        (("campaign.c1.settlement.s1", "settlement_updated", "{}"), "campaignId"),
        (update("c2")[:1] + update("c1")[1:], "wrong_subject"),
        (("campaign.c1.settlement.s1", "setlement_updated", "{}"), "Did you mean settlement_updated"),
        (("nothing_like_it", "{}"), "The types are access_revoked, activity.created"),
        (("settlement_updated", "{}", "--type-version", "7"), "the catalogue has settlement_updated in version 1"),
        (("approval.updated", '{"status": "approved"}'), "payload.workspaceId: it is missing"),
    ],
)
def test_publish_refuses_what_gateways_would_set_aside_before_sending(
    data: Path, call: Call, arguments: tuple[str, ...], said: str
) -> None:
    one = call("publish", *arguments, "--data", str(data))

    assert one.exit_code == 1
    assert one.text.startswith("error: ")
    assert said in one.text


def test_listen_refuses_a_malformed_room(data: Path) -> None:
    one = command(data, "listen", "campaign", "--token", "x")

    assert one.process.exit_code == 1
    assert "is not kind:id" in one.text


def test_listen_without_email_and_token_is_a_usage_error(call: Call) -> None:
    one = call("listen", "campaign:c1")

    assert one.exit_code == 2
    assert "--email or --token" in one.text


@pytest.mark.parametrize(
    "name", [["token", "--email", OWNER], ["publish", *update("c1")], ["listen", "campaign:c1", "--email", OWNER]]
)
def test_commands_without_a_running_up_say_what_to_do(call: Call, tmp_path: Path, name: list[str]) -> None:
    one = call(*name, "--data", str(tmp_path / "nothing"))

    assert one.exit_code == 1
    assert "beaconfire up" in one.text


def set_aside(data: Path, subject: str, body: bytes) -> None:
    """Publish what no gateway passes on, as a careless service would."""

    async def send() -> None:
        folder = DataFolder(data)
        password = folder.passwords()["publisher"]
        broker = await nats.connect(folder.running().nats_url, user="publisher", password=password)
        await broker.publish(subject, body)
        await broker.drain()

    asyncio.run(send())


def test_deadletters_shows_earlier_and_new_letters_with_reasons_and_without_secrets(data: Path) -> None:
    subject = "campaign.c1.settlement.s9"
    set_aside(data, subject, b'{"type":"no_such_thing","payload":{"apiToken":"hush-1"},"note":"Bearer hush-2"}')
    with terminal(data.parent, "deadletters", "--follow", "--data", str(data)) as follower:
        early = follower.wait_for(subject)
        detail, meaning, body = (follower.wait_for("") for _ in range(3))

        set_aside(data, subject, b"garbage\x1b[2J")

        late = follower.wait_for(subject)
        follower.wait_for("garbage·[2J")
    [log_line] = [
        json.loads(line)
        for line in (data / "logs" / "gateway-1.log").read_text().splitlines()
        if "set aside an invalid event" in line and "no_such_thing" in line
    ]

    assert re.search(rf"Z  unknown_type  {subject}  offset \d+, 79 bytes", early)
    assert "'no_such_thing'" in detail
    assert "no event of the catalogue has this type" in meaning
    assert '{"type":"no_such_thing","payload":{"apiToken":"[redacted]"},"note":"Bearer [redacted]' in body
    assert "not_json" in late
    assert (log_line["reason"], log_line["subject"], log_line["level"]) == ("unknown_type", subject, "warning")
    assert "hush" not in follower.text + json.dumps(log_line)


def test_deadletters_json_prints_one_line_for_each_letter_with_its_whole_body(data: Path) -> None:
    """An operator of a deployment names the broker in the environment."""
    folder = DataFolder(data)
    environment = {
        "BEACONFIRE_NATS_URL": folder.running().nats_url,
        "BEACONFIRE_NATS_USER": "operator",
        "BEACONFIRE_NATS_PASSWORD": folder.passwords()["operator"],
    }
    bodies = [b'{"type":"settlement_updated","n":%d}' % number for number in range(3)]
    with terminal(data.parent, "deadletters", "--follow", "--json", "--reason", "invalid", **environment) as follower:
        for body in bodies:
            set_aside(data, "campaign.c1.settlement.s8", body)
        follower.wait_for('n\\":2')
    one = run(data.parent, "deadletters", "--json", "--reason", "invalid", "--last", "2", **environment)
    letters = [json.loads(line) for line in one.seen if line.startswith("{")]

    assert one.process.exit_code == 0
    assert [letter["body"] for letter in letters] == [body.decode() for body in bodies[1:]]
    assert {letter["reason"] for letter in letters} == {"invalid"}
    assert letters[0]["number"] < letters[1]["number"]
    assert letters[0]["offset"] < letters[1]["offset"]
    assert "1 older dead letters are not shown. To see all: --last 3" in one.text


def test_deadletters_replay_says_what_still_fails_and_exits_with_1(data: Path, call: Call) -> None:
    set_aside(data, "campaign.c1.settlement.s7", b"not yet")
    with terminal(data.parent, "deadletters", "--follow", "--data", str(data)) as follower:
        follower.wait_for("not yet")

    one = call("deadletters", "--replay-all", "--reason", "not_json", "--data", str(data))
    gone = call("deadletters", "--replay", "999999", "--json", "--data", str(data))

    assert (one.exit_code, gone.exit_code) == (1, 1)
    assert re.search(r"campaign\.c1\.settlement\.s7 +still invalid +not_json: Invalid JSON", one.text)
    assert json.loads(gone.text)["outcomes"][0]["why"] == "there is no such dead letter any more"


def test_deadletters_drop_needs_a_reason_and_logs_it_with_who_did_it(data: Path, call: Call) -> None:
    set_aside(data, "campaign.c1.settlement.s8", b"never valid")
    with terminal(data.parent, "deadletters", "--follow", "--data", str(data)) as follower:
        follower.wait_for("never valid")
    seen = call("deadletters", "--json", "--data", str(data))
    [number] = [one["number"] for one in map(json.loads, seen.text.splitlines()) if one["body"] == "never valid"]

    without = call("deadletters", "--drop", str(number), "--data", str(data))
    both = call("deadletters", "--drop", "1", "--replay", "1", "--because", "x", "--data", str(data))
    dropped = call("deadletters", "--drop", str(number), "--because", "a test sent it", "--data", str(data))
    again = call("deadletters", "--drop", str(number), "--because", "a test sent it", "--data", str(data))

    assert (without.exit_code, both.exit_code, dropped.exit_code, again.exit_code) == (2, 2, 0, 1)
    assert "--because" in without.text
    assert re.search(rf"{number} +campaign\.c1\.settlement\.s8 +dropped", dropped.text)
    assert "there is no such dead letter any more" in again.text


def test_every_command_that_asks_a_deployment_finds_the_running_up_with_data() -> None:
    """Siblings have the same options: whoever knows one command knows the next."""
    commands = dict(every_command(typer.main.get_command(app), ""))
    without = {name for name, options in commands.items() if "--data" not in options}
    asking_auth = {name for name, options in commands.items() if "--auth-ops" in options}
    deleting = {name for name, options in commands.items() if "--drop" in options}

    assert without == {"authorizer check", "broker config"}  # they ask no deployment
    assert {name for name in asking_auth if "--operator-token" not in commands[name]} == set()
    assert {name for name in deleting if "--because" not in commands[name]} == set()


def every_command(group: Any, above: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield every command by its full name, with its options."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from every_command(one, f"{above}{name} ")
        else:
            yield f"{above}{name}", frozenset(option for parameter in one.params for option in parameter.opts)


def test_setup_brings_the_stream_of_the_running_up_up_to_date(data: Path, call: Call) -> None:
    one = call("setup", "--data", str(data))

    assert one.exit_code == 0
    assert "The stream is declared" in one.text


def test_admin_prints_an_address_that_opens_the_page_of_the_running_up(data: Path) -> None:
    with terminal(data.parent, "admin", "--port", str(free_ports()), "--data", str(data)) as one:
        address = one.wait_for("Open").split()[-1]
        url, _, token = address.partition("/#token=")
        one.wait_for("Ctrl-C")
        until_it_listens(url)

        seen = call_api("GET", f"{url}/api/v1/admin/overview", token=token)

        one.interrupt()
        assert one.ends() == 0
    assert seen["problems"] == []
    assert {one["name"] for one in seen["services"]} == {"auth", "publisher"}
    assert len(seen["gateways"]) == 1
    assert token not in "".join(path.read_text() for path in (data / "logs").iterdir())


def until_it_listens(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert call_api("GET", f"{url}/healthz") == {"status": "alive"}
            return
        except ApiError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_deadletters_refuses_an_unknown_reason_with_the_known_ones(call: Call, data: Path) -> None:
    one = call("deadletters", "--reason", "nonsense", "--data", str(data))

    assert one.exit_code == 1
    assert "'nonsense' is not a reason. The reasons are not_json, unknown_type" in one.text


def test_deadletters_names_who_may_read_them_to_a_user_who_may_not(tmp_path: Path, data: Path) -> None:
    folder = DataFolder(data)
    environment = {
        "BEACONFIRE_NATS_URL": folder.running().nats_url,
        "BEACONFIRE_NATS_USER": "publisher",
        "BEACONFIRE_NATS_PASSWORD": folder.passwords()["publisher"],
    }

    one = run(tmp_path, "deadletters", **environment)

    assert one.process.exit_code == 1
    assert "the broker user publisher may not read the dead letters: connect as operator" in one.text
    assert "Traceback" not in one.text


def test_doctor_checks_everything_of_a_running_up_and_finds_nothing_wrong(data: Path) -> None:
    one = run(data.parent, "doctor", "--json", "--data", str(data))
    told = json.loads(one.text)
    found = {check["name"]: check["verdict"] for check in told["checks"]}

    assert one.process.exit_code == 0
    assert {name for name, verdict in found.items() if verdict not in ("ok", "warning")} == set()
    assert {
        found[name] for name in (*DURABLES, "sync_interval", "user gateway", DataFolder(data).running().address)
    } == {"ok"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_and_tables_are_printed_on_a_terminal_without_unicode(tmp_path: Path, data: Path, encoding: str) -> None:
    shown = run(tmp_path, "--help", PYTHONIOENCODING=encoding)
    examined = run(tmp_path, "doctor", "--data", str(data), PYTHONIOENCODING=encoding)

    assert (shown.process.exit_code, examined.process.exit_code) == (0, 0), shown.text + examined.text
    assert "doctor" in shown.text
    assert "ok" in examined.text
    assert "Traceback" not in shown.text + examined.text


def test_setup_can_be_repeated_and_prints_the_streams_epoch(tmp_path: Path, data: Path) -> None:
    folder = DataFolder(data)
    environment = {
        "BEACONFIRE_NATS_URL": folder.running().nats_url,
        "BEACONFIRE_NATS_USER": "setup",
        "BEACONFIRE_NATS_PASSWORD": folder.passwords()["setup"],
    }

    first, second = (run(tmp_path, "setup", **environment) for _ in range(2))

    assert first.process.exit_code == 0
    assert first.text == second.text
    assert "epoch" in first.text


def test_setup_without_permission_ends_in_time_with_a_sentence(tmp_path: Path, data: Path) -> None:
    folder = DataFolder(data)
    environment = {
        "BEACONFIRE_NATS_URL": folder.running().nats_url,
        "BEACONFIRE_NATS_USER": "auth",
        "BEACONFIRE_NATS_PASSWORD": folder.passwords()["auth"],
    }

    one = run(tmp_path, "setup", "--timeout", "3", **environment)

    assert one.process.exit_code == 1
    assert "May the user auth do that" in one.text


async def test_readmes_publisher_example_publishes_a_valid_event(data: Path, tmp_path: Path) -> None:
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    folder = DataFolder(data)
    url = folder.running().nats_url
    assert ".beaconfire/passwords.json" in script
    assert "nats://127.0.0.1:8083" in script
    script = script.replace(".beaconfire", str(data)).replace("nats://127.0.0.1:8083", url)
    async with connected(At(url, folder.passwords()), "gateway") as listener:
        heard = await listener.subscribe("live.campaign.c1.>")
        await listener.flush()

        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)

        assert await process.wait() == 0
        message = await heard.next_msg(timeout=10)
    read(message.subject.removeprefix("live."), message.data)


@pytest.mark.parametrize("name", ["up", "token", "listen", "publish", "deadletters", "doctor", "setup"])
def test_every_command_and_option_has_help(call: Call, name: str) -> None:
    one = call(name, "--help")

    assert one.exit_code == 0
    assert f"Usage: beaconfire {name}" in one.text


def test_key_rotation_on_a_running_up_is_accepted_everywhere(data: Path) -> None:
    (before,) = json.loads(command(data, "keys", "list", "--json").text)
    made = command(data, "keys", "rotate", "--lead", "0").text.strip()
    listed = json.loads(command(data, "keys", "list", "--json").text)
    readable = command(data, "keys", "list").text
    token = command(data, "token", "--email", OWNER).text.strip()
    refused = command(data, "keys", "retire", made)

    assert [(one["kid"], one["state"]) for one in listed] == [(made, "signing"), (before["kid"], "verifying")]
    assert made in readable
    assert "verifying" in readable
    assert tokens.peek(token).key_id == made
    assert call_api("GET", f"{DataFolder(data).running().publisher_url}/v1/campaigns", token=token)["campaigns"]
    assert refused.ends() == 1
    assert "rotate first" in refused.text


def test_service_token_commands_create_list_and_revoke_a_token(data: Path) -> None:
    """A malformed pattern is refused with a reason."""
    token = command(data, "service-token", "issue", "weather", "campaign.*.world_time", "--days", "2").text.strip()
    every = json.loads(command(data, "service-token", "list", "--json").text)
    (listed,) = [one for one in every if one["service"] == "weather"]
    revoked = command(data, "service-token", "revoke", listed["id"])
    readable = command(data, "service-token", "list").text
    refused = command(data, "service-token", "issue", "weather", "live.>")

    assert tokens.peek(token).type == tokens.SERVICE_TYPE
    assert (listed["service"], listed["publish"], listed["usedAt"]) == ("weather", ["campaign.*.world_time"], None)
    assert revoked.ends() == 0
    assert "revoked" in readable
    assert listed["id"] in readable
    assert refused.ends() == 1
    assert "live.>" in refused.text


def test_operator_commands_without_the_right_token_do_nothing(data: Path) -> None:
    refused = command(data, "keys", "list", "--operator-token", "wrong")
    of_nobody = command(data, "reset-attempts")
    reset = command(data, "reset-attempts", "--email", OWNER, "--address", "127.0.0.1")

    assert (refused.ends(), of_nobody.ends(), reset.ends()) == (1, 2, 0)
    assert "operator token" in refused.text


def test_limits_are_shown_and_reset_on_every_gateway_of_the_running_up(data: Path) -> None:
    """Also at addresses that are given. A gateway that does not answer is named, and the exit code is 1."""
    (ops, *_) = DataFolder(data).running().gateway_ops_urls
    shown = command(data, "limits", "show", "nobody", "--json")
    readable = command(data, "limits", "show", "nobody", "--gateway-ops", ops)
    of_nobody = command(data, "limits", "reset")
    reset = command(data, "limits", "reset", "--user", "nobody", "--address", "127.0.0.1")
    by_name = command(
        data, "limits", "reset", "--user", "nobody", "--gateway-ops", ops.replace("127.0.0.1", "localhost")
    )
    invalid = command(data, "limits", "reset", "--address", "nonsense", "--gateway-ops", ops)
    away = command(data, "limits", "reset", "--user", "u", "--gateway-ops", "http://127.0.0.1:9", "--gateway-ops", ops)

    assert json.loads(shown.text) == {"clients": []}
    assert (readable.ends(), of_nobody.ends(), reset.ends(), by_name.ends()) == (0, 2, 0, 0)
    assert "0 clients" in reset.text
    assert (invalid.ends(), away.ends()) == (1, 1)
    assert "'nonsense' is no IP address" in invalid.text
    assert "http://127.0.0.1:9" in away.text


def test_version_is_printed_and_every_command_has_short_help(call: Call) -> None:
    assert call("--version").text.startswith("beaconfire 0.")
    assert "Push this fragment" in call("up", "-h").text

"""The other commands, against a running `up`; and what they say about bad input."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest

from beaconfire import demo
from beaconfire.api import call as call_api
from beaconfire.cli import main
from beaconfire.data_folder import DataFolder
from beaconfire.diagnosis import DURABLES
from beaconfire_kit import tokens
from beaconfire_kit.envelope import read
from tests.conftest import At, connected
from tests.tools.terminal import Terminal, free_ports, run, terminal

ROOT = Path(__file__).parents[2]
OWNER, EDITOR, VIEWER, STRANGER = (person.email for person in demo.PEOPLE)


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of an `up` that runs, with the demo in it."""
    folder = tmp_path_factory.mktemp("up")
    data = folder / "data"
    with terminal(folder, "up", "--port", str(free_ports()), "--data", str(data), "--gateways", "1") as one:
        one.wait_for("Open")
        yield data


@pytest.fixture(name="campaign")
def _campaign(data: Path) -> str:
    """The demo campaign's id."""
    return str(json.loads((data / "demo.json").read_text())["campaign"])


def command(data: Path, name: str, *arguments: str) -> Terminal:
    """A command that ends by itself, on the running set."""
    one = run(data.parent, name, *arguments, "--data", str(data))
    assert "Traceback" not in one.text
    return one


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    exit_code: int
    text: str


@pytest.fixture(name="call")
def _call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """A command run within this process, which is faster, for what is refused before anything is sent."""

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["beaconfire", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Said(end.value.code if isinstance(end.value.code, int) else 0, out + err)

    return call


def update(campaign: str) -> tuple[str, str, str]:
    """Arguments of `publish` for an event of a campaign."""
    payload = {"campaignId": campaign, "settlementId": "s1", "operation": "update", "changedFields": ["level"]}
    return f"campaign.{campaign}.settlement.s1", "settlement_updated", json.dumps(payload)


def test_token(data: Path) -> None:
    """`token` prints an access token and nothing else."""
    one = command(data, "token", "--email", OWNER)

    assert one.process.exit_code == 0
    assert len(one.seen) == 1
    assert one.seen[0].count(".") == 2


def test_a_wrong_password_is_said(data: Path) -> None:
    """A refused sign-in is a sentence and exit code 1."""
    one = command(data, "token", "--email", OWNER, "--password", "not that one")

    assert one.process.exit_code == 1
    assert one.text.startswith("error: ")


def test_what_is_published_is_heard(data: Path, campaign: str) -> None:
    """An event from `publish` reaches `listen` in a readable line with its offset."""
    with terminal(data.parent, "listen", f"campaign:{campaign}", "--email", VIEWER, "--data", str(data)) as listener:
        listener.wait_for("listening to")

        published = command(data, "publish", *update(campaign))

        line = listener.wait_for("settlement_updated")
        assert published.text == f"offset {line.split()[0]}"
        assert "changedFields=" in line


def test_json_is_the_frame(data: Path, campaign: str) -> None:
    """`listen --json` prints each event frame as one line of JSON."""
    room = f"campaign:{campaign}/settlement:s1"
    with terminal(data.parent, "listen", room, "--email", EDITOR, "--json", "--data", str(data)) as listener:
        listener.wait_for("listening to")

        command(data, "publish", *update(campaign), "--source", "test")

        frame = json.loads(listener.wait_for("settlement_updated"))
        assert frame["type"] == "event"
        assert frame["rooms"] == [f"campaign:{campaign}", f"campaign:{campaign}/settlement:s1"]
        assert frame["event"]["metadata"]["source"] == "test"


def test_listening_with_a_token(data: Path, campaign: str) -> None:
    """A token from `token` opens `listen`."""
    token = command(data, "token", "--email", VIEWER).text

    with terminal(data.parent, "listen", f"campaign:{campaign}", "--token", token, "--data", str(data)) as listener:
        listener.wait_for("listening to")
        listener.interrupt()
        assert listener.ends() == 130
        assert "Traceback" not in listener.text


def test_a_stranger_hears_nothing(data: Path, campaign: str) -> None:
    """`listen` to a room one may not see ends with a sentence."""
    one = command(data, "listen", f"campaign:{campaign}", "--email", STRANGER)

    assert one.process.exit_code == 1
    assert f"cannot listen to campaign:{campaign}" in one.text
    assert "error: no room is left" in one.text


def test_a_bad_token_ends_listening(data: Path) -> None:
    """A token that proves nothing is said so, and not tried for ever."""
    one = command(data, "listen", "campaign:c1", "--token", "nonsense")

    assert one.process.exit_code == 1
    assert "4401" in one.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("campaign.c1.settlement.s1", "settlement_updated", "{"), "no JSON"),
        (("campaign.c1.settlement.s1", "settlement_updated", "[]"), "error: "),
        (("campaign.c1.settlement.s1", "settlement_updated", "{}"), "campaignId"),
        (update("c2")[:1] + update("c1")[1:], "wrong_subject"),
        (("campaign.*.settlement.s1", "settlement_updated", "{}"), "is not an id"),
        (("planet.p1", "settlement_updated", "{}"), "does not start with one of"),
        (("campaign.c1.settlement.s1", "setlement_updated", "{}"), "not in the catalogue"),
        (("campaign.c1.member.u1", "member_changed", "{}"), "only auth may publish"),
    ],
)
def test_what_cannot_be_published_is_not_sent(call: Callable[..., Said], arguments: tuple[str, ...], said: str) -> None:
    """A bad subject, type or payload is refused before anything is sent, and the reason is named."""
    one = call("publish", *arguments, "--data", "/nowhere")

    assert one.exit_code == 1
    assert one.text.startswith("error: ")
    assert said in one.text


def test_a_room_that_is_none(data: Path) -> None:
    """`listen` refuses a room's name that cannot be one."""
    one = command(data, "listen", "campaign", "--token", "x")

    assert one.process.exit_code == 1
    assert "is not kind:id" in one.text


def test_listening_needs_a_person(call: Callable[..., Said]) -> None:
    """`listen` without --email and --token is a usage error that names both."""
    one = call("listen", "campaign:c1")

    assert one.exit_code == 2
    assert "--email or --token" in one.text


@pytest.mark.parametrize(
    "name", [["token", "--email", OWNER], ["publish", *update("c1")], ["listen", "campaign:c1", "--email", OWNER]]
)
def test_without_a_running_set(call: Callable[..., Said], tmp_path: Path, name: list[str]) -> None:
    """Without an `up` each command says what to do."""
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


def test_what_was_set_aside(data: Path) -> None:
    """`deadletters` shows what was set aside and why, before it was called and since; the gateway's log has it too.
    What looks like a secret is in neither."""
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
        if "set aside a message" in line and "no_such_thing" in line
    ]

    assert re.search(rf"Z  unknown_type  {subject}  offset \d+, 79 bytes", early)
    assert "'no_such_thing'" in detail
    assert "no event of the catalogue has this type" in meaning
    assert '{"type":"no_such_thing","payload":{"apiToken":"[redacted]"},"note":"Bearer [redacted]' in body
    assert "not_json" in late
    assert (log_line["reason"], log_line["subject"], log_line["level"]) == ("unknown_type", subject, "warning")
    assert "hush" not in follower.text + json.dumps(log_line)


def test_what_was_set_aside_as_json(data: Path) -> None:
    """`deadletters --json --reason --last` prints one line of JSON for each, with its whole body; an operator of a
    deployment is told by the environment where the broker is."""
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
    assert "1 older ones are not shown: --last 3" in one.text


def test_dead_letters_of_no_reason(call: Callable[..., Said], data: Path) -> None:
    """A reason that is none is refused with those there are."""
    one = call("deadletters", "--reason", "nonsense", "--data", str(data))

    assert one.exit_code == 1
    assert "'nonsense' is no reason; there are not_json, unknown_type" in one.text


def test_dead_letters_nobody_may_read(tmp_path: Path, data: Path) -> None:
    """A user who may not read them is told so, and who may."""
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


def test_doctor(data: Path) -> None:
    """The doctor finds nothing wrong with a running `up`, and looks at all of it: every worker has its consumer, every
    service is ready, the broker waits for its disk."""
    one = run(data.parent, "doctor", "--json", "--data", str(data))
    told = json.loads(one.text)
    found = {check["name"]: check["verdict"] for check in told["checks"]}

    assert one.process.exit_code == 0
    assert {name for name, verdict in found.items() if verdict not in ("ok", "warning")} == set()
    assert {
        found[name] for name in (*DURABLES, "sync_interval", "user gateway", DataFolder(data).running().address)
    } == {"ok"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_is_no_error(tmp_path: Path, data: Path, encoding: str) -> None:
    """Help and tables are printed with what the terminal's encoding has."""
    shown = run(tmp_path, "--help", PYTHONIOENCODING=encoding)
    examined = run(tmp_path, "doctor", "--data", str(data), PYTHONIOENCODING=encoding)

    assert (shown.process.exit_code, examined.process.exit_code) == (0, 0), shown.text + examined.text
    assert "doctor" in shown.text
    assert "in order" in examined.text
    assert "Traceback" not in shown.text + examined.text


def test_setup_declares_the_stream(tmp_path: Path, data: Path) -> None:
    """`setup` can be repeated, and says which epoch the stream has."""
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


def test_setup_says_who_may_not(tmp_path: Path, data: Path) -> None:
    """`setup` as a user who may not declare the stream ends in time, with a sentence."""
    folder = DataFolder(data)
    environment = {
        "BEACONFIRE_NATS_URL": folder.running().nats_url,
        "BEACONFIRE_NATS_USER": "auth",
        "BEACONFIRE_NATS_PASSWORD": folder.passwords()["auth"],
    }

    one = run(tmp_path, "setup", "--timeout", "3", **environment)

    assert one.process.exit_code == 1
    assert "may auth do that" in one.text


async def test_the_readmes_publisher(data: Path, tmp_path: Path) -> None:
    """The README's example for services that know nothing of ours works as it stands: its event is a valid one."""
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
def test_every_command_has_help(call: Callable[..., Said], name: str) -> None:
    """`--help` says what a command does, and what each option is."""
    one = call(name, "--help")

    assert one.exit_code == 0
    assert f"Usage: beaconfire {name}" in one.text


def test_keys(data: Path) -> None:
    """A rotation while everything runs: two keys are listed, and what the new one signs is believed everywhere."""
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


def test_service_tokens(data: Path) -> None:
    """Made and shown once, listed with what it may publish, revoked; a pattern that is none is refused in words."""
    token = command(data, "service-token", "issue", "weather", "campaign.*.world_time", "--days", "2").text.strip()
    (listed,) = json.loads(command(data, "service-token", "list", "--json").text)
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


def test_operator_token(data: Path) -> None:
    """Without the right operator token nothing is shown or done; a reset needs somebody to reset."""
    refused = command(data, "keys", "list", "--operator-token", "wrong")
    of_nobody = command(data, "reset-attempts")
    reset = command(data, "reset-attempts", "--email", OWNER, "--address", "127.0.0.1")

    assert (refused.ends(), of_nobody.ends(), reset.ends()) == (1, 2, 0)
    assert "operator token" in refused.text

"""`beaconfire doctor` at real brokers: healthy ones, and ones damaged in every way that it promises to see."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from beaconfire import broker_config, diagnosis
from beaconfire.broker_users import USER_INFO, password_variable
from beaconfire.diagnosis import Check, Facts
from beaconfire.doctor import CannotDiagnose, Deployment, diagnose, renew_epoch
from beaconfire.nats_server import NatsServer, free_port
from beaconfire_kit import broker
from beaconfire_kit.broker import GATEWAY_PREFIX, NS, PRESENCE_PREFIX, STREAM
from beaconfire_kit.gateway_buckets import BUCKETS
from beaconfire_kit.stream_setup import declare_stream
from tests.cluster.brokers import Brokers
from tests.conftest import broker_settings, connected
from tests.tools.conftest import Call
from tests.tools.examined import change, looked_at, names


@pytest.fixture(name="watched")
def _watched(tmp_path: Path) -> Iterator[NatsServer]:
    """A broker as it is shipped, with its monitoring port."""
    server = NatsServer(tmp_path / "nats")
    server.monitoring_port = free_port()
    server.start()
    yield server
    server.kill()


async def test_doctor_finds_nothing_wrong_with_a_broker_as_shipped(watched: NatsServer) -> None:
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
        before = watched.log_path.stat().st_size
        checks = await looked_at(watched, passwords=watched.passwords)
        at_home = await looked_at(watched, environment="development")
    logged = watched.log_path.read_text()[before:]

    assert [line for line in logged.splitlines() if "[ERR]" in line or "[WRN]" in line] == []
    assert names(checks, "wrong") == set()
    assert names(checks, "warning") == {"replicas", *diagnosis.DURABLES}
    assert names(checks, "unseen") == {"readiness"}
    assert checks["sync_interval"].found == "always"
    assert checks["duplicate_window"].found == "15 minutes"
    assert checks["retention"].found == "kept 7 days or 8 GiB: reaches back 7 days at the rate so far"
    assert {f"user {name}" for name in watched.passwords} <= names(checks, "ok")
    assert at_home["replicas"].verdict == "ok"


async def test_doctor_checks_every_setting_that_delivery_depends_on_by_its_documented_name(watched: NatsServer) -> None:
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
    checks = await looked_at(watched, passwords=watched.passwords)
    page = (Path(__file__).parents[2] / "docs/topics/delivery.md").read_text()
    rows = page.partition("| what | shipped value |")[2].partition("\n\n")[0].splitlines()[2:]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[-2])]
    of_clusters = {"replica …", "stream leader", "meta leader"}

    assert len(named) > len(rows) > 5
    assert [name for name in named if not any(check.startswith(name.rstrip("…")) for check in checks)] == [
        name for name in named if name in of_clusters
    ]


DAMAGES: dict[str, dict[str, Any]] = {
    "storage": {"storage": "memory", "max_bytes": 1_000_000},
    "subjects": {"subjects": ["campaign.>", "user.>", "tick", "anchor"]},
    "republish": {"republish": {"src": "campaign.>", "dest": "live.campaign.>"}},
    "duplicate_window": {"duplicate_window": 120 * NS},
    "message lifetimes": {"allow_msg_ttl": False},
    "atomic batches": {"allow_atomic": False},
    "max_msg_size": {"max_msg_size": -1},
    "discard": {"discard": "new"},
    "retention policy": {"retention": "interest"},
    "retention": {"max_age": 0, "max_bytes": -1},
    "epoch": {"metadata": {}},
}


async def test_doctor_reports_each_changed_setting_of_the_stream_and_setup_repairs_it(watched: NatsServer) -> None:
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
        for name, damage in DAMAGES.items():
            await change(setup, f"STREAM.DELETE.{STREAM}")
            config = broker.stream_config(replicas=1, epoch="e1") | damage
            await change(setup, f"STREAM.CREATE.{STREAM}", config)
            damaged = await looked_at(watched)

            assert names(damaged, "wrong") == {name}, name
            assert damaged[name].advice
            if "delete the stream" not in damaged[name].advice:
                await declare_stream(setup)
                assert names(await looked_at(watched), "wrong") == set(), name


async def test_doctor_reports_a_broker_that_stores_nothing_with_the_reason(watched: NatsServer) -> None:
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
        stores = (await looked_at(watched))["stores"]
        full = broker.stream_config(replicas=1, epoch="e1") | {"discard": "new", "max_bytes": 100}
        await change(setup, f"STREAM.UPDATE.{STREAM}", full)
        checks = await looked_at(watched)

    assert stores.verdict == "ok"
    assert checks["stores"].verdict == "wrong"
    assert "maximum bytes exceeded" in checks["stores"].found
    assert "restart nats-server once there is room" in checks["stores"].advice


async def test_doctor_warns_of_a_stream_without_an_anchor_or_that_fills_within_a_day(watched: NatsServer) -> None:
    async with connected(watched, "setup") as setup, connected(watched, "publisher") as publisher:
        await declare_stream(setup)
        await change(setup, f"STREAM.PURGE.{STREAM}")
        small = broker.stream_config(replicas=1, epoch="e1", max_bytes=100_000)
        await change(setup, f"STREAM.UPDATE.{STREAM}", small)
        await broker.publish(publisher, "campaign.c1.state", b"x" * 1_000, message_id="one")
        checks = await looked_at(watched)

    assert checks["anchor"].verdict == checks["retention"].verdict == "warning"
    assert "reaches back 92.5 minutes" in checks["retention"].found


async def test_doctor_reports_lagging_and_misplaced_workers_and_dead_letters(watched: NatsServer) -> None:
    config = {"ack_policy": AckPolicy.EXPLICIT, "max_ack_pending": 1}
    async with connected(watched, "setup") as setup, connected(watched, "publisher") as publisher:
        await declare_stream(setup)
        js = setup.jetstream()
        for name in diagnosis.DURABLES:
            await js.add_consumer(STREAM, ConsumerConfig(name=name, durable_name=name, **config))  # type: ignore[arg-type]
        for number in range(diagnosis.LAG_WARNING):
            await publisher.publish("campaign.c1.state", b"%d" % number)
        await broker.publish(publisher, "campaign.c1.state", b"last", message_id="last")
        async with connected(watched, "gateway") as gateway:
            await gateway.publish("deadletter.invalid", b"{}")
            await gateway.flush()
        checks = await looked_at(watched)
        info = await change(setup, f"STREAM.INFO.{STREAM}", {"subjects_filter": "anchor"})
        consumers = (await change(setup, f"CONSUMER.LIST.{STREAM}"))["consumers"]
    # The broker itself lets no consumer in that stands there; one that was restored apart from its stream does.
    consumers[0]["delivered"]["stream_seq"] = info["state"]["last_seq"] + 1
    beyond = {check.name: check for check in diagnosis.examine(facts(stream=info, consumers=tuple(consumers)))}

    assert {checks[name].verdict for name in diagnosis.DURABLES} == {"warning"}
    assert "1,003 messages wait" in checks["scheduler"].found
    assert "`beaconfire deadletters`" in checks["dead letters"].advice
    assert beyond[consumers[0]["name"]].verdict == "wrong"


async def test_doctor_reports_a_missing_bucket_of_the_gateways_and_setup_makes_it(watched: NatsServer) -> None:
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
        for bucket in BUCKETS.values():
            await change(setup, f"STREAM.DELETE.{bucket.stream}")
        before = await looked_at(watched)
        await declare_stream(setup)
    after = await looked_at(watched)

    assert names(before, "wrong") == {f"bucket {name}" for name in BUCKETS}
    assert all(bucket.purpose in before[f"bucket {name}"].found for name, bucket in BUCKETS.items())
    assert all("beaconfire setup" in before[f"bucket {name}"].advice for name in BUCKETS)
    assert {f"bucket {name}" for name in BUCKETS} <= names(after, "ok")


async def test_doctor_reports_permissions_of_a_version_before_that_had_fewer_ways_in(watched: NatsServer) -> None:
    """Gateways had no buckets, did not ask one another, and did not tell each other who is present."""
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
    config = watched.folder / "nats-server.conf"
    text = config.read_text()
    for name in BUCKETS:
        text = text.replace(f', "$KV.{name}.>", "$JS.API.STREAM.MSG.GET.KV_{name}"', "")
    text = text.replace(f', "{GATEWAY_PREFIX}>"', "").replace(f', "{PRESENCE_PREFIX}>"', "")
    config.write_text(text)
    await asyncio.to_thread(watched.reload)
    checks = await looked_at(watched, passwords=watched.passwords)

    assert names(checks, "wrong") == {"user gateway"}
    assert checks["user gateway"].found == (
        "may not write records of gateways, may not ask gateways, may not say who is present"
    )
    assert "beaconfire broker config" in checks["user gateway"].advice


async def test_doctor_says_that_the_brokers_configuration_is_older_than_this_version(watched: NatsServer) -> None:
    """In it, no user may ask what it may do."""
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
    config = watched.folder / "nats-server.conf"
    config.write_text(config.read_text().replace(f', "{USER_INFO}"', ""))
    await asyncio.to_thread(watched.reload)
    checks = await looked_at(watched, passwords=watched.passwords)

    assert names(checks, "wrong") == {f"user {name}" for name in watched.passwords}
    assert checks["user auth"].found == "may not ask what it may do"
    assert "beaconfire broker config" in checks["user auth"].advice


def facts(**seen: Any) -> Facts:
    server = {"version": "2.15.1", "max_payload": 262_144}
    return Facts(**{"server": server, "user": "operator", "development": False, "now": datetime.now(UTC), **seen})


def test_doctor_reports_old_servers_small_payloads_and_different_clocks() -> None:
    old = facts(server={"version": "2.10.22", "max_payload": 1_024}, skew_s=-45.0)
    younger = facts(server={"version": "2.12.1-RC.1", "max_payload": 262_144}, skew_s=3.0)
    first, second = ({check.name: check.verdict for check in diagnosis.examine(one)} for one in (old, younger))

    assert (first["version"], first["max_payload"], first["clock"]) == ("wrong", "warning", "wrong")
    assert (second["version"], second["max_payload"], second["clock"]) == ("warning", "ok", "warning")


def damaged(server: NatsServer, monkeypatch: pytest.MonkeyPatch, text: str, other: str) -> None:
    """Start the broker with another text in its configuration."""
    render = broker_config.render

    def changed(**options: Any) -> str:
        config = render(**options)
        assert text in config
        return config.replace(text, other)

    monkeypatch.setattr("beaconfire.nats_server.render", changed)
    server.kill()
    server.start()


@pytest.mark.parametrize(
    ("text", "other", "name", "found"),
    [
        ("sync_interval: always", 'sync_interval: "2m"', "sync_interval", "every 2 minutes: a power loss loses"),
        ('subscribe: { allow: ["live.>",', 'subscribe: { allow: [">",', "user gateway", "may subscribe to everything"),
        ('allow: ["live.>",', "allow: [", "user gateway", "may not subscribe to live.>"),
        ('publish: { allow: ["tick",', 'publish: { allow: ["live.>",', "user gateway", "may publish live.>"),
        (
            "authorization {",
            "no_auth_user: operator\nauthorization {",
            "passwords",
            "the broker accepts clients without a user",
        ),
    ],
)
async def test_doctor_reports_a_broker_with_weak_durability_or_open_permissions(
    watched: NatsServer, monkeypatch: pytest.MonkeyPatch, text: str, other: str, name: str, found: str
) -> None:
    async with connected(watched, "setup") as setup:
        await declare_stream(setup)
    damaged(watched, monkeypatch, text, other)
    checks = await looked_at(watched, passwords=watched.passwords)

    assert names(checks, "wrong") == {name}
    assert found in checks[name].found
    assert checks[name].advice


async def test_doctor_checks_replicas_and_leaders_of_a_cluster_and_names_a_server_that_is_down(
    tmp_path: Path,
) -> None:
    async with Brokers(tmp_path).running() as brokers, connected(brokers, "publisher") as publisher:
        settings = broker_settings(brokers, "operator")

        async def look() -> dict[str, Check]:
            # Without a majority, no question gets an answer, so all are waited for in vain.
            return {check.name: check for check in await diagnose(Deployment(settings, answer_s=1.0))}

        async with asyncio.timeout(30):
            while names(whole := await look(), "wrong"):
                pass
            down = await brokers.follower()
            brokers.servers[down].kill()
            # If it led the whole cluster, another server has to be elected first.
            while names(one_down := await look(), "wrong") != {f"replica n{down}"}:
                await publisher.publish("campaign.c1.state", b"{}")  # a leader with nothing to say notices in 10 s
            brokers.servers[await brokers.leader()].kill()
            while (two_down := await look())["stream"].verdict == "ok":
                pass

    assert names(whole, "wrong") == set()
    assert {"replicas", "stream leader", "meta leader", f"replica n{down}"} <= names(whole, "ok")
    assert one_down["meta leader"].verdict == one_down["stream leader"].verdict == "ok"
    assert "a majority must run: start" in two_down["stream"].advice


def test_doctor_command_exits_with_1_on_a_problem_and_prints_the_same_as_json(
    watched: NatsServer, call: Call, tmp_path: Path
) -> None:
    environment = watched.environment("operator")
    env_file = tmp_path / "env"
    passwords = watched.passwords.items()
    env_file.write_text("".join(f"{password_variable(user)}={password}\n" for user, password in passwords))
    options = ["--monitoring", f"http://127.0.0.1:{watched.monitoring_port}/", "--env-file", str(env_file)]

    none = call("doctor", *options, **environment)
    call("setup", **watched.environment("setup"))
    fine = call("doctor", *options, **environment)
    absent = call("doctor", "--json", "--service", "http://127.0.0.1:1", **environment)
    told = json.loads(absent.text)

    assert (none.exit_code, fine.exit_code, absent.exit_code) == (1, 0, 1)
    assert "there is no stream EVENTS" in none.text
    assert "run `beaconfire setup`" in none.text
    assert "user gateway" in fine.text
    assert "ok, 4 warnings, 1 not seen" in fine.text
    assert told["verdict"] == "wrong"
    assert [check["name"] for check in told["checks"] if check["verdict"] == "wrong"] == ["http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"BEACONFIRE_NATS_URL": "nats://127.0.0.1:1"}, "cannot reach nats://127.0.0.1:1"),
        ({"BEACONFIRE_NATS_URL": "nats://no-such-host.invalid"}, "cannot reach nats://no-such-host.invalid"),
        ({"BEACONFIRE_NATS_PASSWORD": "another-than-that-of-the-operator"}, "does not accept the user operator"),
        ({"BEACONFIRE_NATS_USER": "nobody"}, "does not accept the user nobody"),
    ],
)
def test_doctor_with_a_wrong_address_user_or_password_says_what_to_do(
    nats_server: NatsServer, call: Call, environment: dict[str, str], said: str
) -> None:
    one = call("doctor", **nats_server.environment("operator") | environment)

    assert one.exit_code == 1
    assert said in one.text


async def test_doctor_reports_what_it_may_not_see_as_unseen(stream: NatsServer) -> None:
    settings = broker_settings(stream, "publisher")
    checks = {check.name: check for check in await diagnose(Deployment(settings))}

    buckets = {f"bucket {name}" for name in BUCKETS}
    assert {"consumers", "dead letters", "sync_interval", "readiness", *buckets} == names(checks, "unseen")
    assert "publisher may not ask" in checks["consumers"].found


def test_new_epoch_for_a_missing_stream_is_refused_with_advice(nats_server: NatsServer, call: Call) -> None:
    one = call("doctor", "--new-epoch", "--yes", **nats_server.environment("setup"))

    assert one.exit_code == 1
    assert "there is no stream EVENTS" in one.text


async def test_new_epoch_is_refused_to_every_user_except_setup(stream: NatsServer) -> None:
    with pytest.raises(CannotDiagnose, match="only the user setup"):
        await renew_epoch(broker_settings(stream, "operator"))

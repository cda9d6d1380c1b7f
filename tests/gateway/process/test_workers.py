"""Several workers on one port, as real processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from tests.event_streams import open_stream
from tests.fakes import FakeAuth
from tests.gateway.workers import ROOM, STATS, WAIT_S, running_workers


def refused(server: NatsServer, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a gateway that does not start."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BEACONFIRE_")},
        **server.environment("gateway"),
        "BEACONFIRE_ENVIRONMENT": "development",
        **{f"BEACONFIRE_{name}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "beaconfire_gateway", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)


async def test_clients_of_two_workers_on_one_port_share_events_figures_look_ups_and_resets(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path) as workers:
        firsts = await workers.client_at_each()
        offset = await workers.publish()
        heard = [(await client.next("event"))["offset"] for client in firsts.values()]
        stats = await workers.stats()
        sessions = await workers.samples("beaconfire_gateway_sessions")
        opened = await workers.samples("beaconfire_gateway_connections_opened_total")
        requests = await workers.samples("beaconfire_http_request_duration_seconds_count")
        twice = [await workers.client("viewer") for _ in range(6)]
        of_one = (await workers.ask("/api/v1/ws/users/viewer/clients"))[1]["clients"]
        listed = (await workers.ask("/api/v1/ws/sessions?user=viewer&limit=5"))[1]
        guarded = [(await workers.ask(f"/api/v1/ws/{path}"))[0] for path in (f"events/{offset}", "tail")]
        shown = await workers.operate(f"/api/v1/ws/events/{offset}")
        tailed = await workers.first_line(f"/api/v1/ws/tail?after={offset - 1}")
        after = await workers.stats()
        resets = [
            (await workers.ask(f"/api/v1/ws/clients/{one}/reset-limits", method="POST"))[0]
            for one in (*(client.ack["sessionId"] for client in firsts.values()), "none")
        ]

        reset_all = await workers.ask("/api/v1/ws/reset-limits?user=viewer", method="POST")
        refused = await workers.ask("/api/v1/ws/reset-limits?address=nonsense", method="POST")
        ended = await workers.ask(f"/api/v1/ws/clients/{twice[0].ack['sessionId']}/disconnect", method="POST")
        code = (await twice[0].closed()).code
        ended_again = await workers.ask(f"/api/v1/ws/clients/{twice[0].ack['sessionId']}/disconnect", method="POST")

    count = stats["clients"]
    assert reset_all == (200, {"clients": 6})
    assert {one["worker"] for one in listed["gateways"]} == {1, 2}
    assert (listed["total"], [one["sessionId"] for one in listed["sessions"]]) == (
        6,
        sorted(one.ack["sessionId"] for one in twice)[:5],
    )
    assert (guarded, shown["offset"], tailed["offset"]) == ([401, 401], offset, offset)
    assert (refused[0], refused[1]["error"]["code"]) == (400, "bad_request")
    assert heard == [offset, offset]
    assert set(firsts) == {1, 2}
    assert count == stats["users"] == stats["clientsPerRoom"][ROOM] == stats["clientsPerAddress"]["127.0.0.1"] >= 2
    assert stats["addresses"] == 1
    assert sum(one["clients"] for one in stats["workers"]) == count
    assert sum(sessions.values()) == sum(opened.values()) == sum(requests.values()) == count
    assert set(sessions) == {"1", "2"}
    assert sorted(one["sessionId"] for one in of_one) == sorted(client.ack["sessionId"] for client in twice)
    assert (after["clients"], after["users"]) == (count + 6, count + 1)
    assert resets == [204, 204, 404]
    assert (ended[0], code, ended_again[0]) == (204, 4503, 404)


async def test_client_back_at_another_worker_replaces_its_session_and_no_other_users(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path, count=3) as workers:
        firsts = await workers.client_at_each()
        crossed = 0
        old = await workers.client("viewer")
        while crossed < 5:
            new = await workers.client("viewer", replaces=old.ack["sessionId"])
            end = await old.closed()
            crossed += new.ack["sessionId"][:2] != old.ack["sessionId"][:2]
            await workers.client("viewer", replaces=firsts[1].ack["sessionId"])
            old = new
        offset = await workers.publish()
        heard = [(await client.next("event"))["offset"] for client in (*firsts.values(), old)]

    assert (end.code, end.reason) == (1000, "another connection took over")
    assert heard == [offset] * 4


async def test_stream_back_at_another_worker_replaces_the_one_before(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    """The id of a stream is longer than others."""
    async with running_workers(stream, auth, tmp_path) as workers, AsyncExitStack() as stack:
        url, token = workers.process.url, auth.token("viewer")
        old = await stack.enter_async_context(open_stream(url, token))
        session_id = (await old.ack())["sessionId"]
        while True:
            new = await stack.enter_async_context(open_stream(url, token, replaces=session_id))
            new_id = (await new.ack())["sessionId"]
            closed = (await old.next("close")).json
            if new_id[:2] != session_id[:2]:
                break
            old, session_id = new, new_id

    assert closed["code"] == 1000


async def test_killed_worker_is_restarted_its_clients_resume_and_other_sockets_stay(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path) as workers:
        firsts = await workers.client_at_each()
        before = await workers.pids()
        os.kill(before[1], signal.SIGKILL)
        await firsts[1].closed()
        offset = await workers.publish()
        again = await workers.client("viewer", cursor=firsts[1].ack["cursor"])
        missed = await again.next("event")
        kept = await firsts[2].next("event")
        await workers.all_ready()
        after = await workers.pids()
        starts = await workers.samples("beaconfire_gateway_worker_starts_total")

    assert (missed["offset"], kept["offset"]) == (offset, offset)
    assert after[1] != before[1]
    assert after[2] == before[2]
    assert starts == {"1": 2, "2": 1}


async def test_hung_worker_is_named_and_left_out_of_operators_figures(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path) as workers:
        pids = await workers.pids()
        os.kill(pids[1], signal.SIGSTOP)
        (ready, says), up, (_, stats) = await asyncio.gather(
            workers.ask("/readyz"), workers.samples("beaconfire_gateway_worker_up"), workers.ask(STATS)
        )

    assert (ready, says["workers"]) == (200, {"1": "does not answer", "2": "ready"})
    assert up == {"1": 0, "2": 1}
    assert [one["worker"] for one in stats["workers"]] == [2]


async def test_sigterm_drains_every_worker_and_the_parent_exits_with_0(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path, STOP_TIMEOUT_S="300") as workers:
        firsts = await workers.client_at_each()
        assert workers.process.process.pid
        os.killpg(workers.process.process.pid, signal.SIGTERM)  # the whole group, as service managers do
        goaways = [await client.next("goaway") for client in firsts.values()]
        ready, states = await workers.readiness()
        late = [await workers.client(f"user{90 + number}") for number in range(4)]
        goaways += [await client.next("goaway") for client in late]
        stats = await workers.stats()
        await workers.stack.aclose()  # they leave, and the drain waits for no other client
        code = await workers.ended()

    assert len(goaways) == 6
    assert (ready, states) == (503, {"1": "stopping", "2": "stopping"})
    assert stats["clients"] >= 2
    assert code == 0


async def test_second_sigterm_ends_all_workers_at_once(stream: NatsServer, auth: FakeAuth, tmp_path: Path) -> None:
    async with running_workers(stream, auth, tmp_path, STOP_TIMEOUT_S="300") as workers:
        client = await workers.client()
        parent = workers.process.process.pid
        assert parent
        os.kill(parent, signal.SIGINT)
        await client.next("goaway")
        os.kill(parent, signal.SIGTERM)
        await client.closed()
        code = await workers.ended()

    assert code == 1


async def test_sighup_restarts_the_workers_one_after_the_other_without_a_lost_event(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path, STOP_TIMEOUT_S="300") as workers:
        firsts = await workers.client_at_each()
        before = await workers.pids()
        parent = workers.process.process.pid
        assert parent
        os.kill(parent, signal.SIGHUP)
        await firsts[1].next("goaway")
        _, states = await workers.readiness()
        elsewhere = [await workers.client(f"user{90 + number}") for number in range(4)]
        await workers.publish()
        heard = [await client.next("event") for client in (*firsts.values(), *elsewhere)]
        await workers.stack.aclose()
        async with asyncio.timeout(WAIT_S):
            while set((await workers.pids()).values()) & set(before.values()):
                await asyncio.sleep(0.05)
        await workers.all_ready()

    assert states == {"1": "stopping", "2": "ready"}
    assert len(heard) == 6


async def test_killed_parent_leaves_no_worker_and_a_free_port(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path) as workers:
        firsts = await workers.client_at_each()
        ends = [os.pidfd_open(pid) for pid in (await workers.pids()).values()]
        workers.process.kill()
        for client in firsts.values():
            await client.closed()
        for end in ends:
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(end, gone.set)
            async with asyncio.timeout(WAIT_S):
                await gone.wait()
            asyncio.get_running_loop().remove_reader(end)
            os.close(end)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", workers.process.port))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"HEARTBEAT_S": "0"}, "BEACONFIRE_HEARTBEAT_S: Input should be greater than or equal to 1\n"),
        ({"NATS_URL": "nats://127.0.0.1:here"}, "BEACONFIRE_NATS_URL: has to be addresses like nats://"),
        ({"WORKERS": "0"}, "BEACONFIRE_WORKERS: Input should be greater than or equal to 1\n"),
    ],
    ids=["heartbeat", "broker", "workers"],
)
def test_wrong_setting_is_reported_once_and_not_by_each_worker(
    nats_server: NatsServer, settings: Mapping[str, str], why: str
) -> None:
    chosen = () if "WORKERS" in settings else ("--workers", "3")
    end = refused(nats_server, *chosen, **settings)

    assert end.returncode == 2
    assert end.stderr.startswith(why)
    assert end.stderr.count("\n") == 1


@pytest.mark.parametrize("which", ["PORT", "OPS_PORT"])
def test_taken_port_is_reported_once_and_no_worker_starts(nats_server: NatsServer, which: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another gateway of several workers does
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        end = refused(nats_server, "--workers", "2", **{"PORT": "0", which: str(port)})

    assert end.returncode == 1
    assert f"port {port} on 127.0.0.1 cannot be used: Address already in use" in end.stderr
    assert end.stderr.count("\n") == 1


async def test_gateway_of_several_workers_serves_the_asyncapi_document(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path) as workers:
        status, document = await workers.ask("/asyncapi.json")

    assert status == 200
    assert "settlement_updated.v1" in document["components"]["messages"]

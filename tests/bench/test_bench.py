"""`make bench` in small: the load client against a real gateway and the floor, and how figures are judged."""

import math
from pathlib import Path

import pytest

from beaconfire.nats_server import free_port
from bench import report
from bench.figures import FLOOR, OURS, SOCKETIO, UWS, Results, Row, Sample
from bench.load import SOURCE, Load, LoadFailed, Target, compile_c
from bench.look_up import look_up_us
from bench.peers import FOLDER, Peer
from bench.scenarios import SCENARIOS, Scenario
from bench.system import POLL, SERVER, SSE, System
from bench.system import SOCKETIO as SOCKETIO_WAY
from scripts import results

CLIENTS = 5


@pytest.fixture(name="binary", scope="module")
def _binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(SOURCE, tmp_path_factory.mktemp("load") / "load", options=("-Wall", "-Wextra", "-Werror"))


def test_load_client_times_every_event_of_a_gateway_and_every_resume(binary: Path, tmp_path: Path) -> None:
    system = System(tmp_path, users=CLIENTS, in_memory=True)
    try:
        system.start()
        system.start_gateway()
        with Load(binary, system.target(), clients=CLIENTS) as load:
            load.connect(CLIENTS)
            live = load.ask("rate 500 0 0.2")
            cursor, memory_kib, pauses = system.cursor, system.memory_kib(), system.gc_pauses_ms()
        with Load(binary, system.store(), clients=1) as load:
            stored = load.ask("publish 3 2")
        with Load(binary, system.target(cursor=cursor), clients=CLIENTS) as load:
            load.connect(CLIENTS)
            missed = load.ask(f"expect {3 * CLIENTS} 20")
    finally:
        system.stop()

    assert live["deliveries"] >= 50
    assert (live["missing"], live["disconnected"], live["clients"]) == (0, 0, CLIENTS)
    assert 0 < live["latency_ms"]["p50"] <= live["latency_ms"]["p99"]
    assert set(pauses) == {"as_it_is", "thawed", "frozen"}
    assert memory_kib > 10_000
    assert (stored["stored"], stored["not_stored"]) == (3, 0)
    assert (missed["deliveries"], missed["missing"]) == (3 * CLIENTS, 0)


@pytest.mark.parametrize("way", [SOCKETIO_WAY, SSE, POLL])
def test_load_client_counts_every_event_of_other_ways_into_a_gateway(binary: Path, tmp_path: Path, way: str) -> None:
    system = System(tmp_path, users=CLIENTS, in_memory=True)
    try:
        system.start()
        system.start_gateway()
        with Load(binary, system.target(way=way), clients=CLIENTS) as load:
            load.connect(CLIENTS)
            live = load.ask("rate 500 0 0.5")
    finally:
        system.stop()

    assert live["deliveries"] >= 50
    assert (live["missing"], live["disconnected"], live["clients"]) == (0, 0, CLIENTS)


def test_floor_server_sends_each_event_to_the_clients_of_its_room_and_a_rate_is_found(
    binary: Path, tmp_path: Path
) -> None:
    port, publish_port = free_port(), free_port()
    floor = compile_c(FOLDER / "floor.c", tmp_path / "floor")
    target = Target(port, f"lines:127.0.0.1:{publish_port}", "%s", ['0:{"subscribe":"{room}"}'])
    with (
        Peer(FLOOR, [str(floor), str(port), str(publish_port)], target, folder=tmp_path) as running,
        Load(binary, running, clients=CLIENTS * 2, rooms=5, joins=2) as load,
    ):
        load.connect(CLIENTS * 2)
        open_loop = load.ask("rate 400 0 0.2")
        closed_loop = load.ask("window 5 0 0.2")

    assert open_loop["deliveries"] == 4 * round(open_loop["events_per_second"] * open_loop["seconds"])
    assert open_loop["missing"] == closed_loop["missing"] == 0
    assert closed_loop["deliveries"] > 0
    assert SERVER in closed_loop["cpu_s"]


def test_refused_clients_are_told_why_and_are_not_counted(binary: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("none\n")
    nobody = Target(free_port(), "", "", ["0:{token}"], tokens=tokens)
    with Load(binary, nobody, clients=1) as load, pytest.raises(LoadFailed, match=r"0 of 1 clients connected.*refused"):
        load.connect(1, rounds=0)


def test_missing_c_compiler_is_reported_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LoadFailed, match=r"(?s)no C compiler.*apt-get install gcc"):
        compile_c(SOURCE, tmp_path / "load")


def _report(*samples: Sample, missing: dict[str, str]) -> report.Report:
    rows = [
        Row("fan", "a room", "deliveries/s", times={UWS: 0.5, SOCKETIO: 6}),
        Row("cost", "its CPU", "s per M", times={FLOOR: 1.5}, of_cpu=True),
        Row("memory", "memory", "KiB", most=4, times={SOCKETIO: 0.25}, is_cost=True),
        Row("other", "something else", "ms"),
    ]
    scenario = Scenario("all", rows, lambda _stage, _subject: [], (UWS, SOCKETIO, FLOOR))
    return report.Report([scenario], Results(samples), missing, "some day, some machine")


def test_medians_are_judged_by_goals_and_peers_and_missing_figures_get_no_verdict() -> None:
    found = _report(
        *(Sample("fan", value) for value in (90.0, 60.0, 500.0)),
        Sample("fan", 100, UWS),
        Sample("cost", 7, cpu=7),
        Sample("cost", 4, FLOOR, cpu=4),
        Sample("memory", 3.5, limited="the load client"),
        missing={SOCKETIO: "node is missing"},
    )
    fan, cost, memory, other = found.scenarios[0].rows

    assert found.results.value("fan") == 90
    assert found.results.ratio(fan, UWS) == 0.9
    assert [found.results.is_met(row) for row in (fan, cost, memory, other)] == [True, False, True, None]
    lines = found.table().splitlines()
    assert "reached" in lines[1]
    assert "not installed" in lines[1]
    assert "missed" in lines[2]
    assert "3.5*" in lines[3]
    assert "failed" in lines[4]
    assert "node is missing" in found.notes()
    assert "60.0 to 500" in found.notes()


@pytest.mark.parametrize(("theirs", "is_met"), [(16.0, True), (13.0, False)])
def test_cost_must_not_be_more_than_its_part_of_a_peers(theirs: float, is_met: bool) -> None:
    found = _report(Sample("memory", 3.5), Sample("memory", theirs, SOCKETIO), missing={})
    row = found.scenarios[0].rows[2]

    assert row.goal == "≤ 4, ≤ 0.25 x socket.io"
    assert found.results.is_met(row) is is_met


def test_results_replace_the_earlier_ones_between_the_marks_and_the_chart_is_saved_beside_the_page(
    tmp_path: Path,
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Title\n\n{results.begin(report.COMMAND)}\nold\n{results.END}\n\nthe rest\n")

    report.write(_report(Sample("fan", 10), Sample("fan", 5, UWS), missing={}), page)

    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("the rest\n")
    assert "old" not in text
    assert "| a room | 10.0 | deliveries/s |" in text
    assert "some day, some machine" in text
    assert OURS in page.with_suffix(".svg").read_text()


def test_performance_page_has_the_marks_for_results() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()

    assert text.count(results.begin(report.COMMAND)) == text.count(results.END) == 1


def test_figures_that_the_tracker_had_to_beat_are_goals_of_the_bench() -> None:
    goals = {row.id: row for scenario in SCENARIOS for row in scenario.rows}

    assert (goals["one"].least or 0) >= 10_000  # connections of a process
    assert (goals["fan1k"].least or 0) >= 100_000  # messages a second
    assert (goals["memory"].most or math.inf) <= 2  # KiB a client
    assert all((goals[row].most or math.inf) <= 1_000 for row in ("look_up", "look_up_joined", "look_up_crowd"))  # µs


def test_look_up_is_measured_in_rooms_that_have_sessions() -> None:
    assert look_up_us(1_000, joins=False) > 0
    assert look_up_us(1, joins=True) > 0

"""`make bench`: measure what one gateway does on one core of this machine, and compare it with the goals.

docs/performance.md explains how it is measured, and what the figures do not show.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench import report
from bench.cores import CORES, on_core, raise_open_files
from bench.figures import OURS, Results, Sample
from bench.peers import Peers
from bench.scenarios import SCENARIOS, Scenario
from bench.stage import Stage
from scripts import results


def main() -> int:
    """Measure and print. Returns 1 if a scenario failed, 2 if measuring is impossible."""
    arguments = _arguments()
    if sys.platform != "linux":
        print(
            "The bench needs Linux: it gives each side its own core, and its load client uses epoll.",
            file=sys.stderr,
        )
        return 2
    raise_open_files()
    wanted = [one for one in SCENARIOS if one.name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="beaconfire-bench-", ignore_cleanup_errors=True) as folder, on_core(1):
        peers = Peers(Path(folder), wanted=not arguments.no_peers)
        for peer, why in peers.missing.items() if not arguments.no_peers else ():
            print(f"{peer} is not compared: {why}", file=sys.stderr)
        if len(CORES) < 2:
            print(
                "There is only one core. Server and load client share it, so every figure is too low.", file=sys.stderr
            )
        stage = Stage(Path(folder), arguments.seconds, arguments.changes, peers)
        try:
            samples, failures = measure(stage, wanted, arguments.runs)
        finally:
            stage.stop()
    how = report.circumstances(arguments.runs, arguments.seconds)
    found = report.Report(wanted, Results(samples), peers.missing, how)
    print("\n\n".join(part for part in (found.table(), found.notes(), how) if part))
    if arguments.write is not None:
        report.write(found, arguments.write)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


def measure(stage: Stage, scenarios: list[Scenario], runs: int) -> tuple[list[Sample], list[str]]:
    """Measure all scenarios, one after the other, `runs` times. A failure is reported, and the others go on."""
    samples: list[Sample] = []
    failures: list[str] = []
    for run in range(1, runs + 1):
        for scenario in (one for one in scenarios if run == 1 or not one.once):
            for subject in (OURS, *(one for one in scenario.peers if one not in stage.peers.missing)):
                began = time.monotonic()
                try:
                    samples += scenario.measure(stage, subject)
                    how = "done"
                except Exception as error:
                    how = f"failed: {type(error).__name__}: {error}"
                    failures.append(f"{scenario.name} of {subject}, run {run}: {type(error).__name__}: {error}")
                took_s = time.monotonic() - began
                print(f"{run}/{runs} {scenario.name:<10} {subject:<10} {took_s:5.1f} s  {how}", file=sys.stderr)
    return samples, failures


def _arguments() -> argparse.Namespace:
    names = [one.name for one in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", type=_names, default=names, help=f"scenarios, comma-separated: {','.join(names)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per measurement (default %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured (default %(default)s)")
    parser.add_argument("--changes", type=int, default=300, help="HTTP changes per run (default %(default)s)")
    parser.add_argument("--write", type=_page, metavar="PAGE", help="also write the results into this page")
    parser.add_argument("--no-peers", action="store_true", help="measure only Beaconfire")
    return parser.parse_args()


def _page(text: str) -> Path:
    page = Path(text)
    if not results.has_place(page, report.COMMAND):
        raise argparse.ArgumentTypeError(f"{text} is not a page with a place for results")
    return page


def _names(text: str) -> list[str]:
    names = [one.strip() for one in text.split(",")]
    unknown = set(names) - {one.name for one in SCENARIOS}
    if unknown:
        raise argparse.ArgumentTypeError(f"no such scenario: {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    sys.exit(main())

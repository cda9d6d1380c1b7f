"""How `make faults` summarises verdicts and times. The faults themselves are in test_faults.py."""

from pathlib import Path

from scripts import results
from tests.faults import report
from tests.faults.__main__ import COMMAND
from tests.faults.checker import Verdict
from tests.faults.follower import Resume
from tests.faults.report import Outcome, Promise


def _verdict(**damage: tuple[int, ...]) -> Verdict:
    nothing: dict[str, tuple[int, ...]] = {
        "lost": (),
        "twice": (),
        "out_of_order": (),
        "unexpected": (),
        "told": (),
    }
    return Verdict(**{**nothing, **damage}, delivered=4)


def test_report_counts_each_kind_of_damage_over_all_clients() -> None:
    verdicts = [_verdict(lost=(1, 2), twice=(3,)), _verdict(told=(5, 6), out_of_order=(7,), unexpected=(8, 9))]
    outcome = Outcome(verdicts, events=12, back_s=[2.0, 1.0], caught_up_s=[], resumes=[], took_s=3.4)

    table = report.faults({"a fault": outcome}, rounds=1, followers=2).markdown().splitlines()

    assert table[-1] == "| a fault | 12 | 8 | 2 | 1 | 1 | 2 | 2 | 1.00 s | 2.00 s | - | 3 s |"
    assert report.delivered_percent(verdicts) == 100 * 8 / 12
    assert not outcome.is_clean


def test_report_leaves_out_resumes_of_many_events() -> None:
    """The promise is about few missed events."""
    slow, quick = Resume(report.FEW + 1, 9.0), Resume(report.FEW, 0.05)
    outcome = Outcome([_verdict()], events=4, back_s=[], caught_up_s=[], resumes=[slow, quick], took_s=1.0)

    row = report.resumes({"memory": outcome}, rounds=1, followers=1).rows[0]

    assert row == ["memory", "1", "100 to 100", "0.05 s", "0.05 s", "0.05 s", "0", "0", "0"]


def test_promise_is_kept_at_its_bound_broken_beyond_it_and_open_without_measurements() -> None:
    kept = Promise("resumed", 0.25, at=0.25, unit="s")
    broken = Promise("delivered", 99.9994, at=100, unit="%", least=True)
    unknown = Promise("back", None, at=3, unit="s")

    assert kept.row() == ["resumed", "0.25 s", "≤ 0.25 s", "kept"]
    assert broken.row() == ["delivered", "99.999 %", "≥ 100.000 %", "BROKEN"]
    assert unknown.row() == ["back", "not measured", "≤ 3.00 s", ""]


def test_delivery_page_has_the_marks_for_the_fault_report() -> None:
    page = Path(__file__).parents[2] / "docs" / "topics" / "delivery.md"

    assert results.has_place(page, COMMAND)
    assert page.read_text().count("<!-- results: ") == page.read_text().count(results.END)

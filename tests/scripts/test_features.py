"""scripts.features: the page names every requirement, and only tests that exist."""

from pathlib import Path

from scripts.features import IDS, problems


def page(**cells: str) -> str:
    """A features page, everything pending but the given rows."""
    return "\n".join(f"| {id_} | what | {cells.get(id_, 'pending')} |" for id_ in IDS)


def test_a_page_of_pending_rows_is_right(tmp_path: Path) -> None:
    """`pending` is allowed everywhere."""
    assert list(problems(page(), tmp_path)) == []


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    """A requirement without a row is a problem."""
    assert list(problems(page().replace("| A13 |", "| Z |"), tmp_path)) == ["A13 has no row"]


def test_a_row_twice_is_named(tmp_path: Path) -> None:
    """A requirement stands there once."""
    assert list(problems(page() + "\n| B2 | again | pending |", tmp_path)) == ["B2 has 2 rows"]


def test_an_unknown_id_is_named(tmp_path: Path) -> None:
    """A row for no requirement is a problem."""
    assert list(problems(page() + "\n| A7 | what | pending |", tmp_path)) == ["A7 is no requirement"]


def test_a_test_that_exists_is_found(tmp_path: Path) -> None:
    """Functions and methods, several in one row, are looked up without importing their file."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text(
        "import nothing_there\nasync def test_one(): ...\nclass TestTwo:\n    def test_two(self): ...\n"
    )

    cell = "`tests/test_x.py::test_one`, tests/test_x.py::TestTwo::test_two"

    assert list(problems(page(A1=cell), tmp_path)) == []


def test_a_test_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A row may not claim a test that is gone."""
    assert list(problems(page(A1="tests/test_x.py::test_gone"), tmp_path)) == [
        "A1 names tests/test_x.py::test_gone, which is not there"
    ]


def test_a_claim_without_a_test_is_named(tmp_path: Path) -> None:
    """Words are no test."""
    assert list(problems(page(X1="works"), tmp_path)) == [
        "X1 names 'works', which is neither tests/….py::test_… nor `pending`"
    ]

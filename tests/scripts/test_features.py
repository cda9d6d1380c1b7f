"""docs/features.md names every requirement, and only tests that exist."""

from pathlib import Path

from scripts.features import IDS, problems


def page(**cells: str) -> str:
    """A features page, everything pending but the given rows."""
    return "\n".join(f"| {id_} | what | {cells.get(id_, 'pending')} |" for id_ in IDS)


def test_pending_is_allowed_in_every_row(tmp_path: Path) -> None:
    assert list(problems(page(), tmp_path)) == []


def test_requirement_without_a_row_is_reported(tmp_path: Path) -> None:
    assert list(problems(page().replace("| A13 |", "| Z |"), tmp_path)) == ["A13 has no row"]


def test_requirement_with_two_rows_is_reported(tmp_path: Path) -> None:
    assert list(problems(page() + "\n| B2 | again | pending |", tmp_path)) == ["B2 has 2 rows"]


def test_row_for_no_requirement_is_reported(tmp_path: Path) -> None:
    assert list(problems(page() + "\n| A7 | what | pending |", tmp_path)) == ["A7 is not a requirement"]


def test_existing_test_functions_and_methods_are_found_without_an_import(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text(
        "import nothing_there\nasync def test_one(): ...\nclass TestTwo:\n    def test_two(self): ...\n"
    )

    cell = "`tests/test_x.py::test_one`, tests/test_x.py::TestTwo::test_two"

    assert list(problems(page(A1=cell), tmp_path)) == []


def test_row_with_a_missing_test_is_reported(tmp_path: Path) -> None:
    assert list(problems(page(A1="tests/test_x.py::test_gone"), tmp_path)) == [
        "A1 names tests/test_x.py::test_gone, which is not there"
    ]


def test_row_with_words_instead_of_a_test_is_reported(tmp_path: Path) -> None:
    assert list(problems(page(X1="works"), tmp_path)) == [
        "X1 names 'works', which is neither tests/….py::test_… nor `pending`"
    ]

"""Check docs/features.md: every requirement has its row, and every test a row names is there.

python -m scripts.features
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = "docs/features.md"
PENDING = "pending"

# The rows of the requirements: three systems that are replaced (A, B, C), what goes beyond them (X), what a product of
# somebody else needs (D), and how it is built and deployed (S).
_RANGES = {
    "A": ((1, 6), (10, 15), (20, 24), (30, 34), (40, 59)),
    "B": ((1, 10),),
    "C": ((1, 10),),
    "X": ((1, 12),),
    "S": ((1, 5),),
    "D": ((1, 10),),
}
IDS = [
    f"{letter}{number}"
    for letter, ranges in _RANGES.items()
    for first, last in ranges
    for number in range(first, last + 1)
]

_ROW = re.compile(r"\| *([ABCDSX]\d+) *\|(.*)\|([^|]*)\|")
_TEST = re.compile(r"`?(tests/[\w/]+\.py)::((?:\w+::)?test_\w+)`?")


def main() -> int:
    """Print a sentence for each thing that is wrong. Returns the exit code."""
    wrong = list(problems((ROOT / PAGE).read_text(), ROOT))
    for sentence in wrong:
        print(f"{PAGE}: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def problems(page: str, root: Path) -> Iterator[str]:
    """Yield the problems of the page, a sentence each. Tests are looked for below `root`."""
    rows = [match.groups() for match in map(_ROW.fullmatch, page.splitlines()) if match]
    seen = Counter(id_ for id_, _, _ in rows)
    yield from (f"{id_} has no row" for id_ in IDS if not seen[id_])
    yield from (f"{id_} has {count} rows" for id_, count in seen.items() if count > 1)
    yield from (f"{id_} is not a requirement" for id_ in seen if id_ not in IDS)
    for id_, what, tests in rows:
        if not what.strip():
            yield f"{id_} has no description"
        yield from (f"{id_} {sentence}" for sentence in _wrong_tests(tests, root))


def _wrong_tests(cell: str, root: Path) -> Iterator[str]:
    if cell.strip() == PENDING:
        return
    for name in cell.split(","):
        match = _TEST.fullmatch(name.strip())
        if match is None:
            yield f"names {name.strip()!r}, which is neither tests/….py::test_… nor `{PENDING}`"
        elif match[2] not in _tests(root / match[1]):
            yield f"names {match[1]}::{match[2]}, which is not there"


@cache
def _tests(path: Path) -> frozenset[str]:
    """The tests of a file, `test_name` or `TestClass::test_name`, read without importing it."""
    if not path.is_file():
        return frozenset()
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{one.name}"
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


if __name__ == "__main__":
    sys.exit(main())

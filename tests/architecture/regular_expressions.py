"""Find patterns for which Python's `re` can take more than linear time, without running them.

`re` backtracks. It takes at least the square of the text's length under two conditions. One text can be divided between
two repetitions in more than one way, and the rest of the pattern can fail.

The pattern's automaton then has two states p and q. One and the same word leads from p to p, from q to q, and from p to
q. This is the polynomial ambiguity of Weber and Seidl. A search starts at every character. So it has a repetition of
anything in front of the pattern.
"""

import ast
import importlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from tests.architecture.sources import module_name, parsed

ALPHABET = [chr(code) for code in range(128)] + ["\x85", "\xa0", "ä", "Ω", "٣", "\u2028", "漢", "😀"]
EVERYTHING = (1 << len(ALPHABET)) - 1
MANY = 3
"""Repetitions that are bounded count as no loop, and are followed this far."""


@dataclass
class _Automaton:
    """States by number, 0 the first. An edge has the characters it takes, as bits; None for none."""

    edges: list[list[tuple[int | None, int]]] = field(default_factory=lambda: [[]])

    def add(self, before: int, takes: int | None) -> int:
        self.edges.append([])
        self.edges[before].append((takes, len(self.edges) - 1))
        return len(self.edges) - 1

    def ways(self, state: int) -> Counter[int]:
        """The states that are reached without a character, and in how many ways. Itself twice: a loop of nothing."""
        found, left = Counter([state]), [state]
        while left:
            for takes, after in self.edges[left.pop()]:
                if takes is None and found[after] < 2:
                    found[after] += 1
                    left.append(after)
        return found

    def steps(self, state: int) -> list[tuple[int, int]]:
        """The characters that lead on, and where to; twice if there are two ways."""
        return [
            (takes, after)
            for one, ways in self.ways(state).items()
            for takes, after in self.edges[one]
            if takes is not None
            for _ in range(ways)
        ]


def is_linear(pattern: str, *, flags: int = 0, searched: bool = True) -> bool:
    """Whether a pattern takes linear time: `searched` in a text, or matched against the whole of it."""
    automaton = _Automaton()
    if searched:
        automaton.edges[0].append((EVERYTHING, 0))
    start = automaton.add(0, None)
    end = _build(automaton, start, _parser.parse(pattern, flags), flags)
    steps = [automaton.steps(state) for state in range(len(automaton.edges))]
    # A search is over where the pattern has matched: behind such a place nothing is tried again.
    over = {state for state in range(len(steps)) if searched and end in automaton.ways(state)}
    can_fail = _reached(steps, start, without=over)
    looping = [state for state in range(len(steps)) if state in _reached(steps, state)]
    if any(automaton.ways(state)[state] > 1 for state in can_fail):
        return False
    if any(state in _reached(steps, after) for state in can_fail for after in _twice(steps[state])):
        return False
    return not any(
        p != q and q in can_fail and q in _reached(steps, p) and _is_ambiguous(steps, p, q)
        for p, q in product(looping, looping)
    )


def _twice(steps: list[tuple[int, int]]) -> list[int]:
    """The states to which one character leads in two ways."""
    return [after for after, count in Counter(after for _, after in steps).items() if count > 1]


def _reached(steps: list[list[tuple[int, int]]], start: int, without: Collection[int] = ()) -> set[int]:
    """The states that some word leads to, not through any of those `without`. The start only if a word leads back."""
    found, left = set[int](), [start]
    while left:
        for _, after in steps[left.pop()]:
            if after not in found and after not in without:
                found.add(after)
                left.append(after)
    return found


def _is_ambiguous(steps: list[list[tuple[int, int]]], p: int, q: int) -> bool:
    """Whether one word leads from p to p, from p to q and from q to q."""
    found, left = set[tuple[int, int, int]](), [(p, p, q)]
    while left:
        one, two, three = left.pop()
        for (a, to_a), (b, to_b), (c, to_c) in product(steps[one], steps[two], steps[three]):
            after = (to_a, to_b, to_c)
            if a & b & c and after not in found:
                if after == (p, q, q):
                    return True
                found.add(after)
                left.append(after)
    return False


def _build(automaton: _Automaton, state: int, parts: Any, flags: int) -> int:
    for kind, value in parts:
        state = _add(automaton, state, kind, value, flags)
    return state


def _add(automaton: _Automaton, state: int, kind: Any, value: Any, flags: int) -> int:
    if kind in (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN, _constants.CATEGORY):
        return automaton.add(state, _characters(kind, value, flags))
    if kind in (_constants.AT, _constants.ASSERT, _constants.ASSERT_NOT):
        return state
    if kind is _constants.SUBPATTERN:
        return _build(automaton, state, value[3], flags | value[1])
    if kind is _constants.ATOMIC_GROUP:
        return _build(automaton, state, value, flags)
    if kind is _constants.BRANCH:
        end = automaton.add(state, None)
        automaton.edges[state].pop()
        for branch in value[1]:
            automaton.edges[_build(automaton, automaton.add(state, None), branch, flags)].append((None, end))
        return end
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        return _repeat(automaton, state, value[:2], value[2], flags)
    raise NotImplementedError(f"{kind} in a regular expression: teach tests/architecture/regular_expressions.py")


def _repeat(automaton: _Automaton, state: int, times: tuple[int, int], parts: Any, flags: int) -> int:
    least, most = times
    for _ in range(min(least, MANY)):
        state = _build(automaton, state, parts, flags)
    if most is _constants.MAXREPEAT:
        loop = automaton.add(state, None)
        automaton.edges[_build(automaton, loop, parts, flags)].append((None, loop))
        return automaton.add(loop, None)
    end = automaton.add(state, None)
    for _ in range(min(most - least, MANY)):
        state = _build(automaton, state, parts, flags)
        automaton.edges[state].append((None, end))
    return end


def _characters(kind: Any, value: Any, flags: int) -> int:
    """Which characters of the alphabet one place of a pattern takes, as `re` itself decides."""
    tree = _parser.parse("", flags)
    tree.append((kind, value))
    takes = _compiler.compile(tree).fullmatch
    return sum(1 << number for number, character in enumerate(ALPHABET) if takes(character))


@dataclass(frozen=True, slots=True)
class Use:
    """A pattern where a module uses it."""

    place: str
    pattern: str
    flags: int
    searched: bool


def uses(path: Path) -> Iterator[Use]:
    """Every pattern of a module that `re` runs."""
    tree = parsed(path)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_re(node.func) and node.args:
            function = node.func.attr  # type: ignore[attr-defined]
            if function in ("escape", "purge"):
                continue
            flags = next((one.value for one in node.keywords if one.arg == "flags"), None)
            if flags is None and function == "compile" and len(node.args) > 1:
                flags = node.args[1]
            value = _value(path, node.args[0])
            searched = function != "fullmatch"
            if function == "compile":
                searched = _called(tree, parents, node) != {"fullmatch"}
            yield Use(f"{path}:{node.lineno}", value, int(_value(path, flags)) if flags else 0, searched)


def _is_re(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re"


def _value(path: Path, node: ast.AST) -> Any:
    """Return the value of a constant expression in its module. Raises NameError for a pattern made at run time."""
    module = importlib.import_module(module_name(path))
    return eval(compile(ast.Expression(node), str(path), "eval"), vars(module))  # type: ignore[arg-type]


def _called(tree: ast.Module, parents: dict[ast.AST, ast.AST], node: ast.Call) -> set[str]:
    """The methods of a compiled pattern that its module calls."""
    parent = parents[node]
    if isinstance(parent, ast.Attribute):
        return {parent.attr}
    names = {target.id for target in getattr(parent, "targets", []) if isinstance(target, ast.Name)}
    return {
        one.attr if isinstance(one := parents[name], ast.Attribute) else "passed on"
        for name in ast.walk(tree)
        if isinstance(name, ast.Name) and name.id in names and isinstance(name.ctx, ast.Load)
    }

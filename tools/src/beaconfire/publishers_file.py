"""Read the file of further publishers: programs of your own that publish onto the broker with their own users.

    publishers:
      weather:
        publish: [campaign.*.settlement.*]
      quests:
        publish: [campaign.*.quest.*]
        kit: true
        password_variable: QUESTS_PASSWORD

* `publish` lists the subtrees in which it may publish, as patterns of subjects. The first word is a kind of root. Then
  `*` stands for one word, and a last `>` for one or more. Membership changes are always denied.
* `kit` is for services built on beaconfire-kit. They may also ask auth, read the catalogue, and look up in the stream
  what they published. So they could read every event.
* `password_variable` is the environment variable with the password, `BEACONFIRE_<NAME>_PASSWORD` by default.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from beaconfire.broker_config import ROUTES_PASSWORD_VARIABLE, ROUTES_USER
from beaconfire.broker_users import USERS, Publisher, password_variable
from beaconfire.fragment_files import InvalidFile, load
from beaconfire_kit.catalogue.pointers import pointer
from beaconfire_kit.subjects import MEMBERSHIP, is_id, is_reserved, matches

MAX_PUBLISHERS = 200
MAX_SUBTREES = 50
MAX_WORDS = 17
_Place = tuple[str | int, ...]
"""The keys and indices that lead to a part of the file."""
_KEYS = ("publish", "kit", "password_variable")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")


class InvalidPublishers(ValueError):
    """The file of publishers cannot be used. The text has a line for each problem, with the file and its line."""


def read_publishers(path: Path) -> tuple[Publisher, ...]:
    """Read the file, and check all of it. Raises InvalidPublishers."""
    try:
        document, lines = load(path, begins="publishers:")
    except InvalidFile as error:
        raise InvalidPublishers(str(error)) from None
    found = list(_problems(document))
    if found:
        raise InvalidPublishers("\n".join(f"{path}:{_line(lines, place)}: {text}" for place, text in found))
    return tuple(
        Publisher(
            name,
            subtrees=tuple(one["publish"]),
            kit=one.get("kit", False),
            password_variable=one.get("password_variable") or password_variable(name),
        )
        for name, one in document["publishers"].items()
    )


def _line(lines: Mapping[str, int], place: _Place) -> int:
    while place and pointer(*place) not in lines:
        place = place[:-1]
    return lines.get(pointer(*place), 1)


def _problems(document: Any) -> Iterator[tuple[_Place, str]]:
    if not isinstance(document, dict) or not isinstance(document.get("publishers"), dict):
        yield (), "The file has a mapping `publishers`, with a publisher's name as each key."
        return
    for key in document.keys() - {"publishers"}:
        yield (str(key),), f"Unknown key {key!r}. The file has only `publishers`."
    publishers = document["publishers"]
    if len(publishers) > MAX_PUBLISHERS:
        yield ("publishers",), f"{len(publishers)} publishers, {MAX_PUBLISHERS} at most."
    variables = {password_variable(user.name): user.name for user in USERS} | {ROUTES_PASSWORD_VARIABLE: ROUTES_USER}
    for name, one in publishers.items():
        yield from (((*("publishers", str(name)), *place), text) for place, text in _problems_of(name, one, variables))


def _problems_of(name: Any, one: Any, variables: dict[str, str]) -> Iterator[tuple[_Place, str]]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield (), f"{name!r} is not a name: use small letters, digits and `-`, at most 32, with a letter first."
        return
    if name in {user.name for user in USERS} | {ROUTES_USER}:
        yield (), f"{name!r} is a broker user of Beaconfire. Choose another name."
    if not isinstance(one, dict):
        yield (), f"{name} is a mapping with the key `publish`."
        return
    for key in one:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, 1)
            yield (str(key),), f"Unknown key {key!r}. " + (f"Did you mean `{near[0]}`?" if near else _known())
    yield from _problems_of_subtrees(name, one.get("publish"))
    if not isinstance(one.get("kit", False), bool):
        yield ("kit",), f"`kit` is true or false, not {one['kit']!r}."
    variable = one.get("password_variable", password_variable(name))
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        yield ("password_variable",), f"{variable!r} is not a variable: use capital letters, digits and `_`."
    elif (other := variables.setdefault(variable, name)) != name:
        yield ("password_variable",), f"{variable} is the password of {other}. Give each user its own."


def _known() -> str:
    return f"A publisher has {', '.join(f'`{key}`' for key in _KEYS)}."


def _problems_of_subtrees(name: str, subtrees: Any) -> Iterator[tuple[_Place, str]]:
    if not isinstance(subtrees, list) or not 0 < len(subtrees) <= MAX_SUBTREES:
        yield ("publish",), f"{name} needs `publish`, a list of 1 to {MAX_SUBTREES} subtrees like `depot.>`."
        return
    for index, subtree in enumerate(subtrees):
        if why := _why_no_subtree(subtree):
            yield ("publish", index), why
        elif subtree in subtrees[:index]:
            yield ("publish", index), f"`{subtree}` is there twice."


def _why_no_subtree(subtree: Any) -> str | None:
    """Return why a publisher may not get this pattern; None if it may."""
    if not isinstance(subtree, str):
        return f"{subtree!r} is not a text."
    words = subtree.split(".")
    if words[0] in ("*", ">"):
        return f"`{subtree}` begins with a wildcard. Begin it with a kind of root, like `depot`."
    if words[0].startswith("$") or is_reserved(words[0]):
        return f"`{subtree}` begins with `{words[0]}`, which is reserved. Begin it with a kind of root, like `depot`."
    if ">" in words[:-1]:
        return f"`{subtree}` has `>` in the middle. It can only be the last word."
    for word in words:
        if word not in ("*", ">") and not is_id(word):
            return f"`{subtree}` has the word {word!r}. A word has letters, digits, `_` and `-`, or is `*`."
    if len(words) < 2 or len(words) > MAX_WORDS:
        return f"`{subtree}` has {len(words)} words. Write 2 to {MAX_WORDS}, like `{words[0]}.>`."
    if any(matches(pattern, subtree) for pattern in MEMBERSHIP):
        return f"`{subtree}` is for membership changes, which only auth may publish. Change members by auth's API."
    return None

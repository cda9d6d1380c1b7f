"""The file of further publishers."""

from pathlib import Path

import pytest

from beaconfire.broker_users import Publisher
from beaconfire.publishers_file import InvalidPublishers, read_publishers


def written(folder: Path, text: str) -> Path:
    path = folder / "publishers.yaml"
    path.write_text(text)
    return path


def test_publishers_are_read_with_their_subtrees_and_password_variables(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
publishers:
  weather-north:
    publish: [campaign.*.settlement.*, depot.>]
  quests:
    publish:
      - campaign.*.quest.*
    kit: true
    password_variable: QUESTS_PASSWORD
""",
    )

    assert read_publishers(path) == (
        Publisher(
            "weather-north",
            ("campaign.*.settlement.*", "depot.>"),
            kit=False,
            password_variable="BEACONFIRE_WEATHER_NORTH_PASSWORD",
        ),
        Publisher("quests", ("campaign.*.quest.*",), kit=True, password_variable="QUESTS_PASSWORD"),
    )


@pytest.mark.parametrize(
    ("publisher", "line", "said"),
    [
        ("weather: {publish: ['>']}", 2, "begins with a wildcard"),
        ("weather: {publish: ['*.d1.>']}", 2, "begins with a wildcard"),
        ("weather:\n    publish:\n      - depot.>\n      - live.>", 5, "`live`, which is reserved"),
        ("weather: {publish: [catalogue.x]}", 2, "`catalogue`, which is reserved"),
        ("weather: {publish: [_INBOX_gateway.>]}", 2, "reserved"),
        ("weather: {publish: [$JS.API.>]}", 2, "reserved"),
        ("weather: {publish: [ephemeral.depot.>]}", 2, "reserved"),
        ("weather: {publish: [depot.>.x]}", 2, "`>` in the middle"),
        ("weather: {publish: [depot]}", 2, "1 words"),
        ("weather: {publish: [depot.a b]}", 2, "'a b'"),
        ("weather: {publish: ['depot.\"x']}", 2, "'\"x'"),
        ("weather: {publish: [depot..x]}", 2, "''"),
        ("weather: {publish: [depot.*.member.*]}", 2, "only auth may publish"),
        ("weather: {publish: [depot.d1.member.u1]}", 2, "only auth may publish"),
        ("weather: {publish: [user.u1.access]}", 2, "only auth may publish"),
        ("weather: {publish: [depot.>, depot.>]}", 2, "there twice"),
        ("weather: {publish: []}", 2, "a list of 1 to 50"),
        ("weather: {publish: depot.>}", 2, "a list of 1 to 50"),
        ("weather: {publish: [5]}", 2, "5 is not a text"),
        ("weather: {}", 2, "needs `publish`"),
        ("weather: []", 2, "is a mapping"),
        ("weather:\n    publish: [depot.>]\n    subtree: [x]", 4, "Unknown key 'subtree'"),
        ("weather:\n    publishes: [depot.>]", 3, "Did you mean `publish`?"),
        ("weather: {publish: [depot.>], kit: maybe}", 2, "true or false"),
        ("weather: {publish: [depot.>], password_variable: secret}", 2, "capital letters"),
        ("weather: {publish: [depot.>], password_variable: BEACONFIRE_SETUP_PASSWORD}", 2, "password of setup"),
        ("weather: {publish: [depot.>], password_variable: BEACONFIRE_NATS_ROUTES_PASSWORD}", 2, "password of routes"),
        ("gateway: {publish: [depot.>]}", 2, "broker user of Beaconfire"),
        ("routes: {publish: [depot.>]}", 2, "broker user of Beaconfire"),
        ("Weather: {publish: [depot.>]}", 2, "is not a name"),
        ("'a\"b': {publish: [depot.>]}", 2, "is not a name"),
        ("weather: {publish: [depot.>]}\n  weather: {publish: [campaign.>]}", 3, "twice, first in line 2"),
        ("weather: {publish: [depot.>}", 2, "not YAML"),
        ("weather: &a {publish: [depot.>]}\n  other: *a", 3, "alias"),
    ],
)
def test_invalid_publisher_is_refused_with_file_line_and_reason(
    tmp_path: Path, publisher: str, line: int, said: str
) -> None:
    path = written(tmp_path, f"publishers:\n  {publisher}\n")

    with pytest.raises(InvalidPublishers) as refused:
        read_publishers(path)

    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "publishers:", "publisher: {}", "publishers: {}\nmore: 1"])
def test_file_without_publishers_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidPublishers, match="publishers"):
        read_publishers(written(tmp_path, text))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPublishers, match="No such file"):
        read_publishers(tmp_path / "none.yaml")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "publishers:\n  a: {publish: [live.>]}\n  b: {publish: [tick.x], kit: 1}\n")

    with pytest.raises(InvalidPublishers) as refused:
        read_publishers(path)

    assert len(str(refused.value).splitlines()) == 3

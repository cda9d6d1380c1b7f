"""Field checks over HTTP: invalid fields are refused with their names."""

from typing import Any

from tests.publisher.conftest import Publisher

LONG_KEY = "k" * 65
HUNDRED_AND_ONE = {f"v{number}": 1 for number in range(101)}

# A body and what the answer must name. `…` stands for a name that is fine.
REFUSED: dict[str, list[tuple[Any, str]]] = {
    "/v1/campaigns": [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 7}, "name"),
        ({"name": None}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "…", "description": "x" * 10_001}, "description"),
        ({"name": "…", "description": None}, "description"),
        ({"name": "…", "description": "nul \0"}, "description"),
        ({"name": "…", "colour": "red"}, "colour"),
        ({"name": "…", "id": "c1"}, "id"),
        ({"name": "…", "worldTime": "2000-01-01T00:00:00Z"}, "worldTime"),
        ([{"name": "…"}], "object"),
        ("…", "object"),
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"name": "\xff"}', "JSON"),
        (b'{"name": "\\ud800"}', "JSON"),
        (b"[" * 5_000, "JSON"),
    ],
    "{campaign}/settlements": [
        ({"name": "…", "kind": ""}, "kind"),
        ({"name": "…", "kind": "x" * 65}, "kind"),
        ({"name": "…", "level": -1}, "level"),
        ({"name": "…", "level": 101}, "level"),
        ({"name": "…", "level": 1.5}, "level"),
        ({"name": "…", "level": "1"}, "level"),
        ({"name": "…", "level": True}, "level"),
        ({"name": "…", "population": 1_000_000_001}, "population"),
        ({"name": "…", "population": -1}, "population"),
        ({"name": "…", "variables": []}, "variables"),
        ({"name": "…", "variables": None}, "variables"),
        ({"name": "…", "variables": HUNDRED_AND_ONE}, "variables"),
        ({"name": "…", "variables": {"food": None}}, "variables.food"),
        ({"name": "…", "variables": {"food": [1]}}, "variables.food"),
        ({"name": "…", "variables": {"food": {"bread": 1}}}, "variables.food"),
        ({"name": "…", "variables": {"food": "x" * 1_001}}, "variables.food"),
        ({"name": "…", "variables": {"food": 2**53}}, "variables.food"),
        ({"name": "…", "variables": {"a.b": 1}}, "variables.a.b"),
        ({"name": "…", "variables": {"": 1}}, "variables"),
        ({"name": "…", "variables": {LONG_KEY: 1}}, "variables"),
        (b'{"name": "x", "variables": {"food": NaN}}', "variables.food"),
        (b'{"name": "x", "variables": {"food": 1e999}}', "variables.food"),
        ({"name": "…", "created_at": "2000-01-01T00:00:00Z"}, "created_at"),
    ],
    "{campaign}/entities": [
        ({"name": "…"}, "type"),
        ({"name": "…", "type": "a.b"}, "type"),
        ({"name": "…", "type": "*"}, "type"),
        ({"name": "…", "type": ""}, "type"),
        ({"name": "…", "type": "x" * 65}, "type"),
        ({"name": "…", "type": "location", "data": {"food": [1]}}, "data.food"),
    ],
    "{campaign}/world-time": [
        ({}, "advanceSeconds"),
        ({"advanceSeconds": 0}, "advanceSeconds"),
        ({"advanceSeconds": -1}, "advanceSeconds"),
        ({"advanceSeconds": 31_536_001}, "advanceSeconds"),
        ({"advanceSeconds": 1.5}, "advanceSeconds"),
        ({"advance_seconds": 1}, "advanceSeconds"),
    ],
}
REFUSED_CHANGES: list[tuple[Any, str]] = [
    ({"name": None}, "name"),
    ({"name": ""}, "name"),
    ({"level": None}, "level"),
    ({"variables": None}, "variables"),
    ({"variables": {"food": [1]}}, "variables.food"),
    ({"variables": {"a b": None}}, "variables"),
    ({"campaignId": "c2"}, "campaignId"),
    ({"revision": 7}, "revision"),
]
TAKEN: list[dict[str, Any]] = [
    {"name": "x" * 200, "kind": "y" * 64, "level": 100, "population": 1_000_000_000, "description": "z" * 10_000},
    {"name": "Über 🔥", "description": "two\nlines\tand more", "variables": {}},
    {"name": "x", "variables": {"k" * 64: "v" * 1_000, "-_A9": -(2**53) + 1, "f": -1.5e300, "b": False, "t": ""}},
    {"name": "x", "variables": {f"v{number}": number for number in range(100)}},
]


async def test_wrong_field_of_a_creation_is_refused_with_its_name_and_creates_nothing(publisher: Publisher) -> None:
    wrong: list[Any] = []
    for path, rows in REFUSED.items():
        for body, named in rows:
            answer = await publisher.owner.post(path.format(campaign=publisher.campaign), body)
            if answer.status != 400 or answer.error[1] != "bad_request" or named not in answer.message:
                wrong.append((path, body, answer))
    await publisher.create("settlements", name="the next event")
    campaigns = (await publisher.owner.get("/v1/campaigns")).body["campaigns"]

    assert wrong == []
    assert len(campaigns) == 1


async def test_wrong_field_of_a_change_is_refused_with_its_name_and_changes_nothing(publisher: Publisher) -> None:
    settlement = await publisher.create("settlements", name="Emberford", level=3, variables={"food": 1})
    path = f"{publisher.campaign}/settlements/{settlement['id']}"
    wrong: list[Any] = []
    for body, named in REFUSED_CHANGES:
        answer = await publisher.owner.patch(path, {"population": 5, **body})
        if answer.status != 400 or named not in answer.message:
            wrong.append((body, answer))

    assert wrong == []
    assert (await publisher.owner.get(path)).body == {"settlement": settlement}


async def test_values_just_within_the_limits_are_accepted_and_returned_unchanged(publisher: Publisher) -> None:
    for body in TAKEN:
        created = await publisher.create("settlements", **body)

        assert created | body == created


async def test_body_over_64_kib_gets_413_and_one_of_64_kib_is_read(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/settlements"
    fitting = b'{"name": "Emberford"}'.ljust(64 * 1024)

    large = await publisher.owner.post(path, fitting + b" ")
    fits = await publisher.owner.post(path, fitting)

    assert large.error == (413, "too_large")
    assert fits.status == 201


async def test_refusal_of_a_body_with_an_enormous_name_is_short(publisher: Publisher) -> None:
    answer = await publisher.owner.post("/v1/campaigns", {"name": "x", "y" * 50_000: 1})

    assert answer.status == 400
    assert len(answer.message) < 500

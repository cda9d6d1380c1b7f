"""Revisions and `If-Match`: simultaneous edits are merged by field, and a conflict shows the current state."""

import asyncio
from typing import Any

import pytest

from tests.databases import on_both_databases
from tests.publisher.conftest import Publisher, Reply

pytestmark = on_both_databases

EDITORS = 50


async def settlement(publisher: Publisher, **fields: Any) -> str:
    """The path of a new settlement."""
    made = await publisher.create("settlements", name="Emberford", **fields)
    return f"{publisher.campaign}/settlements/{made['id']}"


def tag(revision: int) -> str:
    return f'"{revision}"'


async def insist(publisher: Publisher, path: str, body: Any, revision: int) -> Reply:
    """Change it from a revision, and again while the answer is "try again", which means that nothing was changed."""
    while (answer := await publisher.editor.patch(path, body, If_Match=tag(revision))).status == 503:
        pass
    return answer


async def test_fifty_edits_of_different_fields_from_one_revision_are_merged_with_an_event_each(
    publisher: Publisher,
) -> None:
    path = await settlement(publisher)

    answers = await asyncio.gather(
        *(insist(publisher, path, {"variables": {f"v{number}": number}}, 1) for number in range(EDITORS))
    )
    told = [(await publisher.heard.told())["changedFields"] for _ in range(EDITORS)]
    now = (await publisher.viewer.get(path)).body["settlement"]

    assert {answer.status for answer in answers} == {200}
    assert sorted(told) == sorted([f"variables.v{number}"] for number in range(EDITORS))
    assert now["variables"] == {f"v{number}": number for number in range(EDITORS)}
    assert now["revision"] == EDITORS + 1
    assert {answer.headers["ETag"] for answer in answers} == {tag(number + 2) for number in range(EDITORS)}


async def test_one_edit_of_a_field_wins_each_revision_and_the_others_get_the_current_state(
    publisher: Publisher,
) -> None:
    path = await settlement(publisher)

    async def edit(number: int, revision: int) -> Reply:
        return await insist(publisher, path, {"population": revision * 1_000 + number}, revision)

    for revision in (1, 2, 3):
        answers = await asyncio.gather(*(edit(number, revision) for number in range(EDITORS)))
        won = [answer for answer in answers if answer.status == 200]
        lost = [answer for answer in answers if answer.status != 200]
        truth = won[0].body["settlement"]

        assert len(won) == 1
        assert truth["revision"] == revision + 1
        assert {answer.error for answer in lost} == {(409, "conflict")}
        assert all(answer.body["error"]["conflicts"] == ["population"] for answer in lost)
        assert all(answer.body["error"]["current"] == truth for answer in lost)
        assert (await publisher.heard.told())["changedFields"] == ["population"]


async def test_only_variables_changed_by_both_collide_and_a_conflict_changes_nothing(publisher: Publisher) -> None:
    path = await settlement(publisher, level=1, variables={"food": 1, "gold": 1})
    await publisher.owner.patch(path, {"level": 2, "variables": {"food": 2}})

    same = await publisher.editor.patch(path, {"level": 2}, If_Match=tag(1))
    collides = await publisher.editor.patch(
        path, {"name": "Ashby", "level": 3, "variables": {"food": 3, "gold": 3}}, If_Match=tag(1)
    )
    merged = await publisher.editor.patch(path, {"variables": {"gold": 3}}, If_Match=f"W/{tag(1)}")
    later = await publisher.editor.patch(path, {"level": 3}, If_Match=tag(2))

    assert (same.status, same.body["settlement"]["revision"]) == (200, 2)
    assert collides.error == (409, "conflict")
    assert collides.body["error"]["conflicts"] == ["level", "variables.food"]
    assert collides.body["error"]["current"]["name"] == "Emberford"
    assert merged.status == 200
    assert merged.body["settlement"]["variables"] == {"food": 2, "gold": 3}
    assert later.status == 200  # `gold` is not `level`


async def test_deleting_a_changed_thing_is_a_conflict_that_names_the_changes(publisher: Publisher) -> None:
    path = await settlement(publisher)
    await publisher.owner.patch(path, {"level": 2})

    late = await publisher.editor.delete(path, If_Match=tag(1))
    gone = await publisher.editor.delete(path, If_Match=tag(2))

    assert (late.error, late.body["error"]["conflicts"]) == ((409, "conflict"), ["level"])
    assert late.body["error"]["current"]["level"] == 2
    assert gone.status == 204


async def test_campaign_has_revisions_and_its_conflict_shows_the_state_the_caller_sees(publisher: Publisher) -> None:
    before = await publisher.editor.get(publisher.campaign)
    await publisher.owner.patch(publisher.campaign, {"name": "The Dale"})

    late = await publisher.editor.patch(publisher.campaign, {"name": "The Gap"}, If_Match=before.headers["ETag"])
    merged = await publisher.editor.patch(publisher.campaign, {"description": "d"}, If_Match=before.headers["ETag"])

    assert late.body["error"]["conflicts"] == ["name"]
    assert (late.body["error"]["current"]["name"], late.body["error"]["current"]["role"]) == ("The Dale", "editor")
    assert merged.status == 200


async def test_revision_ahead_of_the_current_one_is_a_conflict(publisher: Publisher) -> None:
    path = await settlement(publisher)

    assert (await publisher.editor.patch(path, {"level": 9}, If_Match=tag(7))).error == (409, "conflict")


@pytest.mark.parametrize("text", ["3", '"x"', '"1", "2"', '""', '"-1"'])
async def test_if_match_that_is_no_revision_is_refused_and_a_star_matches_any(publisher: Publisher, text: str) -> None:
    refused = await publisher.editor.patch(publisher.campaign, {"name": "A"}, If_Match=text)
    any_ = await publisher.editor.patch(publisher.campaign, {"name": "B"}, If_Match="*")

    assert refused.error == (400, "bad_request")
    assert refused.message.startswith("If-Match: ")
    assert any_.status == 200


async def test_creation_repeated_under_its_key_is_made_once_and_invalid_keys_are_refused(publisher: Publisher) -> None:
    """The key of another caller is another key."""
    path, body = f"{publisher.campaign}/settlements", {"name": "Emberford"}

    answers = [await publisher.editor.post(path, body, Idempotency_Key="k1") for _ in range(3)]
    other = await publisher.owner.post(path, body, Idempotency_Key="k1")
    refused = await publisher.owner.post(path, body, Idempotency_Key="k 1")
    told = [(await publisher.heard.told())["settlementId"] for _ in range(2)]

    assert {answer.status for answer in answers} == {201}
    assert told == [answers[0].body["settlement"]["id"], other.body["settlement"]["id"]]
    assert len((await publisher.owner.get(path)).body["settlements"]) == 2
    assert refused.error == (400, "bad_request")


async def test_campaign_creation_repeated_under_its_key_is_made_once(publisher: Publisher) -> None:
    answers = [await publisher.editor.post("/v1/campaigns", {"name": "New"}, Idempotency_Key="k1") for _ in range(2)]

    assert answers[0].body == answers[1].body

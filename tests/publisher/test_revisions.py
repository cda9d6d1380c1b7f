"""Revisions and `If-Match`: edits at the same time are merged field by field, and collide with the truth in hand."""

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
    """Change it from a revision, and again as long as the answer is "try again": nothing was done then."""
    while (answer := await publisher.editor.patch(path, body, If_Match=tag(revision))).status == 503:
        pass
    return answer


async def test_different_fields(publisher: Publisher) -> None:
    """Fifty editors who start from one revision and change a field each: all are merged, and each event names its own
    field."""
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


async def test_same_field(publisher: Publisher) -> None:
    """Fifty editors who change the same field: one wins each revision; the others are told what collides and how it is
    now, and start from that."""
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


async def test_only_what_collides(publisher: Publisher) -> None:
    """What somebody changed since collides variable by variable, what they left alone does not, and the same value for
    the same field is no collision; of a change that collides, nothing is done."""
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


async def test_delete(publisher: Publisher) -> None:
    """Deleting what somebody changed since is a conflict that names what they changed; from there it goes."""
    path = await settlement(publisher)
    await publisher.owner.patch(path, {"level": 2})

    late = await publisher.editor.delete(path, If_Match=tag(1))
    gone = await publisher.editor.delete(path, If_Match=tag(2))

    assert (late.error, late.body["error"]["conflicts"]) == ((409, "conflict"), ["level"])
    assert late.body["error"]["current"]["level"] == 2
    assert gone.status == 204


async def test_campaign(publisher: Publisher) -> None:
    """Campaigns have revisions, too; the state in a conflict is as this caller sees it."""
    before = await publisher.editor.get(publisher.campaign)
    await publisher.owner.patch(publisher.campaign, {"name": "The Dale"})

    late = await publisher.editor.patch(publisher.campaign, {"name": "The Gap"}, If_Match=before.headers["ETag"])
    merged = await publisher.editor.patch(publisher.campaign, {"description": "d"}, If_Match=before.headers["ETag"])

    assert late.body["error"]["conflicts"] == ["name"]
    assert (late.body["error"]["current"]["name"], late.body["error"]["current"]["role"]) == ("The Dale", "editor")
    assert merged.status == 200


async def test_revision_that_never_was(publisher: Publisher) -> None:
    """A revision ahead of the thing's collides: it belongs to a state that is not there."""
    path = await settlement(publisher)

    assert (await publisher.editor.patch(path, {"level": 9}, If_Match=tag(7))).error == (409, "conflict")


@pytest.mark.parametrize("text", ["3", '"x"', '"1", "2"', '""', '"-1"'])
async def test_not_a_revision(publisher: Publisher, text: str) -> None:
    """An `If-Match` that is no revision is refused, and says what is expected; `*` is any."""
    refused = await publisher.editor.patch(publisher.campaign, {"name": "A"}, If_Match=text)
    any_ = await publisher.editor.patch(publisher.campaign, {"name": "B"}, If_Match="*")

    assert refused.error == (400, "bad_request")
    assert refused.message.startswith("If-Match: ")
    assert any_.status == 200


async def test_created_once(publisher: Publisher) -> None:
    """A creation that is asked for again under its key, at once or later, is made once and told of once; another
    caller's key is another key, and one that is none is refused."""
    path, body = f"{publisher.campaign}/settlements", {"name": "Emberford"}

    answers = [await publisher.editor.post(path, body, Idempotency_Key="k1") for _ in range(3)]
    other = await publisher.owner.post(path, body, Idempotency_Key="k1")
    refused = await publisher.owner.post(path, body, Idempotency_Key="k 1")
    told = [(await publisher.heard.told())["settlementId"] for _ in range(2)]

    assert {answer.status for answer in answers} == {201}
    assert told == [answers[0].body["settlement"]["id"], other.body["settlement"]["id"]]
    assert len((await publisher.owner.get(path)).body["settlements"]) == 2
    assert refused.error == (400, "bad_request")


async def test_campaign_created_once(publisher: Publisher) -> None:
    """A campaign, too."""
    answers = [await publisher.editor.post("/v1/campaigns", {"name": "New"}, Idempotency_Key="k1") for _ in range(2)]

    assert answers[0].body == answers[1].body

"""Campaigns over HTTP, with their events as a gateway receives them."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from beaconfire.nats_server import NatsServer
from tests.auth.conftest import Auth
from tests.databases import on_both_databases
from tests.publisher.conftest import Api, Heard, Publisher, publisher_settings, publishing

pytestmark = on_both_databases


async def test_creator_of_a_campaign_is_its_owner_when_the_answer_arrives(publisher: Publisher, auth: Auth) -> None:
    answer = await publisher.stranger.post("/v1/campaigns", {"name": " Reach ", "description": "far"})
    campaign = answer.body["campaign"]
    read = await publisher.stranger.get(f"/v1/campaigns/{campaign['id']}")
    memberships = await auth.call("GET", "/auth/memberships?kind=campaign", token=publisher.stranger.token)
    told = await publisher.heard.told()

    assert answer.status == 201
    assert (campaign["name"], campaign["description"], campaign["role"]) == ("Reach", "far", "owner")
    assert (campaign["worldTime"], campaign["revision"]) == ("1000-01-01T08:00:00Z", 1)
    assert read.body == {"campaign": campaign}
    assert memberships.body["memberships"] == [{"root": f"campaign:{campaign['id']}", "role": "owner"}]
    assert told == {
        "type": "entity_updated",
        "entityType": "campaign",
        "entityId": campaign["id"],
        "campaignId": campaign["id"],
        "operation": "create",
        "changedFields": ["name", "description", "worldTime"],
    }


async def test_campaign_list_has_exactly_the_callers_campaigns_with_the_callers_roles(publisher: Publisher) -> None:
    other = await publisher.viewer.post("/v1/campaigns", {"name": "Mine"})

    answer = await publisher.viewer.get("/v1/campaigns")
    campaigns = answer.body["campaigns"]

    assert [(one["id"], one["role"]) for one in campaigns] == [
        (publisher.campaign_id, "viewer"),
        (other.body["campaign"]["id"], "owner"),
    ]
    assert (await publisher.stranger.get("/v1/campaigns")).body == {"campaigns": []}


async def test_changed_campaign_is_answered_whole_and_its_event_names_what_changed(publisher: Publisher) -> None:
    answer = await publisher.editor.patch(publisher.campaign, {"name": "The Vale", "description": "of embers"})
    told = await publisher.heard.told()
    campaign = answer.body["campaign"]

    assert (campaign["description"], campaign["revision"], campaign["role"]) == ("of embers", 2, "editor")
    assert campaign["updatedAt"] > campaign["createdAt"]
    assert (told["operation"], told["changedFields"]) == ("update", ["description"])


async def test_campaign_change_without_a_difference_publishes_no_event(publisher: Publisher) -> None:
    before = await publisher.editor.get(publisher.campaign)

    same = await publisher.editor.patch(publisher.campaign, {"name": "The Vale"})
    empty = await publisher.editor.patch(publisher.campaign, {})
    await publisher.editor.patch(publisher.campaign, {"name": "Other"})
    told = await publisher.heard.told()

    assert same.body == empty.body == before.body
    assert told["changedFields"] == ["name"]


async def test_deleted_campaign_is_published_once_and_gone_with_all_its_things(publisher: Publisher) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    structures = f"settlements/{settlement['id']}/structures"
    structure = await publisher.create(structures, name="Mill")
    entity = await publisher.create("entities", type="location", name="Shrine")
    gone = [
        "",
        "/settlements",
        f"/settlements/{settlement['id']}",
        f"/{structures}",
        f"/{structures}/{structure['id']}",
        "/entities",
        f"/entities/location/{entity['id']}",
    ]

    answer = await publisher.owner.delete(publisher.campaign)
    told = await publisher.heard.told()
    found = [(await publisher.viewer.get(publisher.campaign + path)).error for path in gone]
    added = await publisher.owner.post(f"{publisher.campaign}/settlements", {"name": "Late"})
    again = await publisher.owner.delete(publisher.campaign)

    assert answer.status == 204
    assert (told["type"], told["entityType"], told["operation"]) == ("entity_updated", "campaign", "delete")
    assert told["changedFields"] == []
    assert set(found) == {(404, "not_found")}
    assert added.error == again.error == (404, "not_found")
    assert (await publisher.owner.get("/v1/campaigns")).body == {"campaigns": []}


async def test_publisher_with_a_wrong_service_token_creates_no_campaign_and_logs_why(
    stream: NatsServer, auth: Auth, heard: Heard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"service_token": SecretStr("another-token")}
    settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json", **wrong)
    async with publishing(settings, heard) as publisher:
        await publisher.says("ready")
        person = await auth.sign_up("owner")
        answer = await Api(publisher.http, publisher.url, person.token).post("/v1/campaigns", {"name": "The Vale"})

    assert answer.error == (500, "internal")
    assert "token" not in answer.message
    assert "set BEACONFIRE_SERVICE_TOKEN" in capsys.readouterr().out

"""services.publisher.settlements over HTTP, with its events as a gateway hears them."""

from tests.publisher.conftest import Publisher


async def test_create(publisher: Publisher) -> None:
    """A new settlement is answered whole, with defaults, and told of with every field."""
    sent = {"name": "Emberford", "level": 3, "variables": {"food": 40, "walled": True, "motto": "burn bright"}}

    answer = await publisher.editor.post(f"{publisher.campaign}/settlements", sent)
    settlement = answer.body["settlement"]
    told = await publisher.heard.told()

    assert answer.status == 201
    assert settlement | sent == settlement
    assert (settlement["kind"], settlement["population"], settlement["description"]) == ("village", 0, "")
    assert (settlement["campaignId"], settlement["revision"]) == (publisher.campaign_id, 1)
    assert settlement["createdAt"] == settlement["updatedAt"]
    assert settlement["createdAt"].endswith("Z")
    assert told == {
        "type": "settlement_updated",
        "campaignId": publisher.campaign_id,
        "settlementId": settlement["id"],
        "operation": "create",
        "changedFields": [
            "name",
            "kind",
            "level",
            "population",
            "description",
            "variables.food",
            "variables.walled",
            "variables.motto",
        ],
    }

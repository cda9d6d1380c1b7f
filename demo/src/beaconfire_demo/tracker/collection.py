"""Answer HTTP calls on one kind of thing in a workspace."""

from beaconfire_demo.tracker.feed import Action
from beaconfire_demo.tracker.store import locked
from beaconfire_kit import collection
from beaconfire_kit.collection import Operation
from beaconfire_kit.store import Reading, Row, Writing

ACTIONS: dict[Operation, Action] = {"create": "created", "update": "updated", "delete": "deleted"}


class Collection(collection.Collection):
    """Answers the five calls. Each change locks the workspace first (`store`)."""

    async def check_parent(self, tx: Reading, path: Row) -> None:
        await locked(tx, path)

    async def lock_others(self, tx: Writing, path: Row, wanted: Row) -> None:
        await locked(tx, path)

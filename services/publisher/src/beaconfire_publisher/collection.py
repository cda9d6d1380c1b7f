"""Answer HTTP calls on one kind of thing in a campaign. Each change is an event."""

from abc import abstractmethod

from beaconfire_kit import collection
from beaconfire_kit.collection import Change
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import Operation
from beaconfire_kit.store import Reading, Row, Writing
from beaconfire_publisher.store import CAMPAIGNS


class Collection(collection.Collection):
    """Answers the five calls. A subclass defines the thing, and which event its changes publish."""

    @staticmethod
    @abstractmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> Event:
        """Return the event of a change to a thing."""

    async def check_parent(self, tx: Reading, path: Row) -> None:
        await tx.find(CAMPAIGNS, {"id": path["campaign_id"]})

    async def report(self, tx: Writing, change: Change) -> None:
        tx.publish(self.event(change.row, change.operation, change.fields))

"""Notifications for a user."""

from beaconfire_kit.event import Id, ItemId, OpenEvent


class NotificationNew(OpenEvent):
    """A notification for one user. It reaches all connections of that user. The payload is the whole notification."""

    type = "notification.new"
    subject = "user.{user_id}.notification.{id}"

    user_id: Id | None = None
    id: ItemId | None = None
    title: str | None = None
    body: str | None = None

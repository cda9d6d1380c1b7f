"""Notifications for a user."""

from datetime import datetime

from beaconfire_kit.event import Id, ItemId, OpenEvent


class NotificationNew(OpenEvent):
    """A notification for one user. It reaches all connections of that user. The payload is the whole notification."""

    type = "notification.new"
    subject = "user.{user_id}.notification.{id}"

    user_id: Id | None = None
    id: ItemId | None = None
    title: str | None = None
    body: str | None = None


class NotificationRead(OpenEvent):
    """A user has read a notification. It reaches all connections of that user, so that a badge counts the same."""

    type = "notification.read"
    subject = "user.{user_id}.notification.{id}"

    user_id: Id | None = None
    id: ItemId | None = None
    read_at: datetime | None = None

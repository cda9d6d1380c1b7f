"""What happens to a user: membership, access, notifications. The first two are auth's own."""

from typing import Literal

from pydantic import AwareDatetime, Field

from beaconfire_kit.catalogue import Event, Id
from beaconfire_kit.roles import Role


class MemberChanged(Event):
    """A user became a member of a root, got another role there, or (`role` null) is no longer a member."""

    type = "member_changed"
    subject = "{root_kind}.{root_id}.member.{user_id}"

    root_kind: Literal["campaign", "workspace"]
    root_id: Id
    user_id: Id
    role: Role | None
    membership_version: int = Field(ge=1)
    """Auth's count of membership changes: an answer of `auth.authorize` with a lower one is out of date."""


class AccessRevoked(Event):
    """Every access token of the user that was issued before `issued_before` is refused from now on."""

    type = "access_revoked"
    subject = "user.{user_id}.access"

    user_id: Id
    issued_before: AwareDatetime
    reason: Literal["signed_out_everywhere", "refresh_token_reused", "account_closed"]
    membership_version: int = Field(ge=1)


class NotificationNew(Event):
    """A notification for one user, on all of that user's connections."""

    type = "notification.new"
    subject = "user.{user_id}.notification.{notification_id}"

    user_id: Id
    notification_id: Id
    title: str = Field(max_length=500)
    body: str | None = Field(default=None, max_length=5_000)

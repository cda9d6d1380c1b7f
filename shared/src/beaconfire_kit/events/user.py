"""The two events of the system: membership and access. Only auth publishes them, and gateways act on them."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from beaconfire_kit.event import Event, Id
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import ID_PATTERN


class MemberChanged(Event):
    """A user became a member of a root, got another role, or (if `role` is null) is no longer a member."""

    type = "member_changed"
    subject = "{root_kind}.{root_id}.member.{user_id}"

    root_kind: Id
    """A kind of root that has members, like `campaign`."""
    root_id: Id
    user_id: Id
    role: Role | None
    membership_version: int = Field(ge=1)
    """Auth's count of membership changes. An answer of `auth.authorize` with a lower count is out of date."""


class AccessRevoked(Event):
    """All access tokens of the user that were issued before `issuedBefore` were revoked.

    With `root` (`depot:d1`), only the user's access to this root was revoked, as far as it does not come from a
    membership. Sockets stay open, and gateways ask auth which of the root's rooms the user may still hear.

    With the reason `disconnected` no token was revoked. Gateways close the sockets that the user has open.
    """

    type = "access_revoked"
    subject = "user.{user_id}.access"

    user_id: Id
    issued_before: AwareDatetime
    reason: Literal["signed_out_everywhere", "refresh_token_reused", "account_closed", "revoked", "disconnected"]
    membership_version: int = Field(ge=1)
    root: Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}:{ID_PATTERN}$")] | None = None

"""What a member of a root may do: owner ⊃ editor ⊃ viewer."""

from enum import StrEnum


class Role(StrEnum):
    """A member's role in a root. Everyone who has one may see the root; the rest is said by `can_…`."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


def can_edit(role: Role | None) -> bool:
    """May change what is in the root."""
    return role in (Role.OWNER, Role.EDITOR)


def can_own(role: Role | None) -> bool:
    """May change who is a member, and delete the root."""
    return role is Role.OWNER

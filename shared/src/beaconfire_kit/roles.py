"""The roles of a root's members: owner ⊃ editor ⊃ viewer."""

from enum import StrEnum


class Role(StrEnum):
    """A member's role in a root. Every member may see the root. See `can_edit` and `can_own` for the rest."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


def can_edit(role: Role | None) -> bool:
    """Return whether the role may change what is in the root."""
    return role in (Role.OWNER, Role.EDITOR)


def can_own(role: Role | None) -> bool:
    """Return whether the role may change members and delete the root."""
    return role is Role.OWNER

"""The roles of a root's members: owner ⊃ editor ⊃ viewer."""

from collections.abc import Iterable
from enum import StrEnum


class Role(StrEnum):
    """A member's role in a root. Every member may see the root. See `can_edit` and `can_own` for the rest."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"

    def includes(self, other: "Role") -> bool:
        """Return whether this role may do everything that the other may."""
        return _HIGHEST_FIRST.index(self) <= _HIGHEST_FIRST.index(other)

    @staticmethod
    def highest(roles: "Iterable[Role | None]") -> "Role | None":
        """Return the highest of these roles, or None if there is none."""
        return min((one for one in roles if one is not None), key=_HIGHEST_FIRST.index, default=None)


_HIGHEST_FIRST = (Role.OWNER, Role.EDITOR, Role.VIEWER)


def can_edit(role: Role | None) -> bool:
    """Return whether the role may change what is in the root."""
    return role in (Role.OWNER, Role.EDITOR)


def can_own(role: Role | None) -> bool:
    """Return whether the role may change members and delete the root."""
    return role is Role.OWNER

"""Say which kinds of roots there are, and which of them have members."""

from collections.abc import Collection

BUILT_IN = ("campaign", "workspace")
USER = "user"
"""The kind of a user's own root. Its one member is not in the table of members."""


class RootKinds:
    """The kinds of roots that the catalogue declares."""

    def __init__(self, with_members: Collection[str] = BUILT_IN) -> None:
        self._with_members = frozenset(with_members)

    @property
    def all(self) -> frozenset[str]:
        """Every kind, as far as this process knows the catalogue."""
        return self._with_members | {USER}

    async def why_without_members(self, kind: str) -> str | None:
        """Return why no root of this kind can have members, or None if it can."""
        if kind == USER:
            return f"the root of a {USER} has no members besides that {USER}"
        if kind not in self._with_members:
            return f"{kind[:64]!r} is not a kind of root in the catalogue, which has {_listed(self._with_members)}"
        return None


def _listed(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds))

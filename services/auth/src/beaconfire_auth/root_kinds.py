"""Say which kinds of roots there are, and which of them have members. The catalogue declares them."""

from collections.abc import Collection, Mapping, Set

from beaconfire_kit import errors
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.errors import BeaconfireError

USER = "user"
"""The kind of a user's own root. Its one member is not in the table of members."""
MAX_AGE_S = 0.25
"""How long a read of the catalogue counts for questions about rooms. Otherwise clients that ask for unknown rooms could
keep auth waiting for reads. A push is also heard, so this is no delay."""


class RootKinds:
    """The kinds of roots in the newest catalogue. It is read once more before a kind is refused as unknown."""

    def __init__(self, catalogues: CatalogueFollower) -> None:
        self._catalogues = catalogues

    @property
    def known(self) -> frozenset[str] | None:
        """Every kind, as far as this process knows the catalogue. None before it was read."""
        return _kinds(self._catalogues.current)

    async def look_again(self) -> frozenset[str] | None:
        """Return every kind, with those of a push a moment ago."""
        return _kinds(await self._catalogues.refresh(max_age_s=MAX_AGE_S))

    async def including(self, kinds: Set[str]) -> frozenset[str]:
        """Return every kind. The catalogue is read again if it lacks one of these."""
        known = self.known or frozenset()
        return known if kinds <= known else await self.look_again() or frozenset()

    async def why_unknown(self, kind: str) -> str | None:
        """Return why no root can have this kind, or None if one can. Raises `unavailable` without a catalogue."""
        return (await self._why_unknown({kind})).get(kind)

    async def why_without_members(self, kind: str) -> str | None:
        """Return why no root of this kind can have members, or None if it can. Raises as `why_unknown` does."""
        return (await self.all_without_members({kind})).get(kind)

    async def all_without_members(self, kinds: Set[str]) -> Mapping[str, str]:
        """Return why no root can have members for each of these kinds of which that is so. Raises as `why_unknown`."""
        own = {USER: f"the root of a {USER} has no members besides that {USER}"} if USER in kinds else {}
        return {**own, **await self._why_unknown(kinds - {USER})}

    async def _why_unknown(self, kinds: Set[str]) -> Mapping[str, str]:
        """Return a sentence for each kind that is none. The catalogue is read at most once, however many there are."""
        if kinds <= (self.known or frozenset()):
            return {}
        catalogue = await self._catalogues.refresh()
        if catalogue is None:
            why = self._catalogues.why_not_ready() or "the catalogue was not read yet"
            raise BeaconfireError(errors.UNAVAILABLE, why, retry_after_ms=1_000)
        if not self._catalogues.is_fresh and kinds - catalogue.root_kinds:
            why = "the catalogue cannot be read now, and may have such a kind of root"
            raise BeaconfireError(errors.UNAVAILABLE, why, retry_after_ms=1_000)
        has = f"the catalogue, which has {_listed(catalogue.root_kinds)}"
        return {kind: f"{kind[:64]!r} is not a kind of root in {has}" for kind in kinds - catalogue.root_kinds}


def _kinds(catalogue: Catalogue | None) -> frozenset[str] | None:
    return catalogue.root_kinds if catalogue else None


def _listed(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds))

"""Answer the HTTP call for the activity feed: what members did, the latest first, page by page."""

from aiohttp import web

from beaconfire_demo.tracker.feed import Entry
from beaconfire_demo.tracker.store import ACTIVITY, locked
from beaconfire_demo.tracker.workspaces import ONE
from beaconfire_kit import errors
from beaconfire_kit.access import Access
from beaconfire_kit.answers import answer
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.store import Store, Writing
from beaconfire_kit.subjects import is_id

PAGE = 50
"""How many entries an answer has."""


class Activity:
    """The activity feed of a workspace, or of one of its issues."""

    def __init__(self, access: Access, store: Store[Writing]) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.get(ONE + "/activity", self._list)]

    async def _list(self, request: web.Request) -> web.Response:
        """`issueId=` chooses those of an issue. `before=` is the `next` of the page before."""
        caller = await self._access.member(request)
        key = dict(caller.path)
        if (issue_id := request.query.get("issueId")) is not None:
            if not is_id(issue_id):
                raise BeaconfireError(errors.BAD_REQUEST, f"issueId: {issue_id[:80]!r} is no id")
            key["issue_id"] = issue_id
        before = _before(request.query.get("before"))
        async with self._store.reading() as tx:
            await locked(tx, caller.path)
            rows = await tx.find_last(ACTIVITY, key, "number", most=PAGE + 1, below=before)
        entries = [Entry.model_validate(row).model_dump(mode="json") for row in rows[:PAGE]]
        next_page = str(rows[PAGE - 1]["number"]) if len(rows) > PAGE else None
        return answer({"activity": entries, "next": next_page}, tx.headers)


def _before(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BeaconfireError(errors.BAD_REQUEST, f"before: expected the `next` of an earlier page, got {text[:80]!r}")
    return int(text)

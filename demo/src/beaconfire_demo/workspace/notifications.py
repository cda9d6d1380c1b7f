"""Tell users what concerns them, and answer HTTP calls on their notifications, which only they see."""

from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web
from pydantic import Field

from beaconfire_demo.workspace.fields import Id, Thing
from beaconfire_demo.workspace.store import NOTIFICATIONS
from beaconfire_kit.access import Access
from beaconfire_kit.answers import answer
from beaconfire_kit.events.notification import NotificationNew, NotificationRead
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Store, Writing
from beaconfire_kit.web import read_body

PATH = "/v1/notifications"
MOST = 50


class Notification(Thing):
    """A notification as its user sees it."""

    workspace_id: str
    title: str
    body: str
    link: str
    """The id of the approval that it is about."""
    read_at: datetime | None


class Seen(Body):
    """The notifications that the user has read."""

    ids: tuple[Id, ...] = Field(min_length=1, max_length=MOST, strict=False, fail_fast=True)


async def notify(tx: Writing, user_ids: Iterable[str], *, workspace_id: str, title: str, body: str, link: str) -> None:
    """Give each of the users a notification, when the transaction is committed. They see it on all their devices."""
    for user_id in user_ids:
        said = {"user_id": user_id, "title": title[:200], "body": body[:500], "link": link, "read_at": None}
        row, _ = await tx.add(NOTIFICATIONS, {"workspace_id": workspace_id}, said)
        tx.publish(NotificationNew.model_validate({"userId": user_id, **_show(row)}))


class Notifications:
    """The HTTP calls on the caller's notifications, in all workspaces."""

    def __init__(self, access: Access, store: Store[Writing]) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._list), web.post(f"{PATH}/read", self._mark)]

    async def _list(self, request: web.Request) -> web.Response:
        caller = await self._access.caller(request)
        async with self._store.reading() as tx:
            rows = await tx.find_last(NOTIFICATIONS, {"user_id": caller.user_id}, "created_at", most=MOST)
            unread = await tx.count(NOTIFICATIONS, {"user_id": caller.user_id, "read_at": None})
        return answer({"notifications": [_show(row) for row in rows], "unread": unread}, tx.headers)

    async def _mark(self, request: web.Request) -> web.Response:
        """Mark notifications as read. Those of others, and those that are marked, stay as they are."""
        caller = await self._access.caller(request)
        wanted = await read_body(request, Seen)
        now = datetime.now(UTC)
        async with self._store.writing(caller.metadata) as tx:
            for id_ in sorted(set(wanted.ids)):  # in order, so that two windows at once do not deadlock
                for found in await tx.find_all(NOTIFICATIONS, {"id": id_, "user_id": caller.user_id, "read_at": None}):
                    await tx.change(NOTIFICATIONS, found, {"read_at": now})
                    tx.publish(NotificationRead(user_id=caller.user_id, id=id_, read_at=now))
        return web.Response(status=204, headers=await self._store.cursor_headers(tx))


def _show(row: Row) -> dict[str, object]:
    return Notification.model_validate(row).model_dump(mode="json")

"""Answer HTTP calls on one kind of thing in a campaign: list, create, read, change, delete. Changes are events."""

from abc import ABC, abstractmethod
from typing import ClassVar

from aiohttp import web
from pydantic.alias_generators import to_camel
from sqlalchemy import Table

from beaconfire_kit import errors
from beaconfire_kit.access import check_editor
from beaconfire_kit.answers import KEY_HEADER, answer, based_on, conflicts, idempotency_key, tag
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import Operation
from beaconfire_kit.models import Body
from beaconfire_kit.store import Reading, Row, new_id
from beaconfire_kit.subjects import is_id
from beaconfire_kit.web import read_body
from beaconfire_publisher.access import Access
from beaconfire_publisher.fields import Thing
from beaconfire_publisher.store import CAMPAIGNS, Store, Writing


class Collection(ABC):
    """Answers the five calls. A subclass defines the thing, and which event its changes publish.

    The names of the path's parts are columns of the table. The last one of `thing_path` is `{id}`.
    """

    word: ClassVar[str]
    plural: ClassVar[str]
    path: ClassVar[str]
    thing_path: ClassVar[str]
    filters: ClassVar[tuple[str, ...]] = ()
    """Columns by which a query parameter may filter. Its name is that of the field."""
    table: ClassVar[Table]
    new: ClassVar[type[Body]]
    changes: ClassVar[type[Body]]
    answer: ClassVar[type[Thing]]

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    @staticmethod
    @abstractmethod
    def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> Event:
        """Return the event of a change to a thing."""

    async def check_parent(self, tx: Reading, path: Row) -> None:
        """Raise `not_found` if the parent in the path does not exist. A deleted campaign may still have members."""
        await tx.find(CAMPAIGNS, {"id": path["campaign_id"]})

    async def lock_others(self, tx: Writing, path: Row, wanted: Row) -> None:  # noqa: B027  (most things refer to none)
        """Find the things that a new or changed thing refers to, before it is found itself. Raises `bad_request`."""

    def check(self, row: Row, fields: tuple[str, ...]) -> None:  # noqa: B027  (most fields are checked one by one)
        """Raise `bad_request` if the thing may not become what it is now. `fields` were changed."""

    async def empty(self, tx: Writing, row: Row) -> None:  # noqa: B027  (most things contain nothing)
        """Change what is inside a thing that is about to be deleted, and publish it."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(self.path, self._list),
            web.post(self.path, self._create),
            web.get(self.thing_path, self._read),
            web.patch(self.thing_path, self._change),
            web.delete(self.thing_path, self._delete),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        key = {**caller.path, **self._chosen(request)}
        async with self._store.reading() as tx:
            await self.check_parent(tx, caller.path)
            rows = await tx.find_all(self.table, key)
        return answer({self.plural: [self._show(row) for row in rows]}, tx.headers)

    async def _create(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        if KEY_HEADER not in request.headers:  # otherwise it may be a repeat, and every reader may see its result
            check_editor(caller)
        wanted = await read_body(request, self.new)
        key = idempotency_key(request, caller.user_id, wanted)
        id_ = new_id()
        async with self._store.writing(caller.metadata) as tx:
            await self.check_parent(tx, caller.path)
            earlier = await tx.claim(key, {"id": id_}) if key else None
            if earlier is not None:
                row = await tx.find(self.table, {**caller.path, "id": earlier.outcome["id"]})
            else:
                check_editor(caller)
                values = wanted.model_dump()
                await self.lock_others(tx, caller.path, values)
                row, fields = await tx.add(self.table, {**caller.path, "id": id_}, values)
                self.check(row, fields)
                tx.publish(self.event(row, "create", fields))
        return answer({self.word: self._show(row)}, {**tag(row), **await self._store.cursor_headers(tx)}, status=201)

    async def _read(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            row = await tx.find(self.table, caller.path)
        return answer({self.word: self._show(row)}, {**tag(row), **tx.headers})

    async def _change(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        revision = based_on(request)
        wanted = (await read_body(request, self.changes)).model_dump(exclude_unset=True)
        with conflicts(self._show):
            async with self._store.writing(caller.metadata) as tx:
                await self.lock_others(tx, caller.path, wanted)
                found = await tx.find(self.table, caller.path)
                row, fields = await tx.change(self.table, found, wanted, based_on=revision)
                self.check(row, fields)
                if fields:
                    tx.publish(self.event(row, "update", fields))
        return answer({self.word: self._show(row)}, {**tag(row), **await self._store.cursor_headers(tx)})

    async def _delete(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        revision = based_on(request)
        with conflicts(self._show):
            async with self._store.writing(caller.metadata) as tx:
                row = await tx.find(self.table, caller.path)
                await self.empty(tx, row)
                await tx.delete(self.table, row, based_on=revision)
                tx.publish(self.event(row, "delete"))
        return web.Response(status=204, headers=await self._store.cursor_headers(tx))

    def _chosen(self, request: web.Request) -> dict[str, str]:
        chosen = {}
        for column in self.filters:
            if (text := request.query.get(name := to_camel(column))) is None:
                continue
            if not is_id(text):
                raise BeaconfireError(errors.BAD_REQUEST, f"{name}: {text[:80]!r} is not a valid {name}")
            chosen[column] = text
        return chosen

    def _show(self, row: Row) -> dict[str, object]:
        return self.answer.model_validate(row).model_dump(mode="json")

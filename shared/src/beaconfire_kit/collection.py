"""Answer HTTP calls on one kind of thing below a root: list, create, read, change, delete.

    class Quests(Collection):
        word = "quest"
        plural = "quests"
        path = "/v1/campaigns/{campaign_id}/quests"
        thing_path = path + "/{id}"
        table = QUESTS
        new = NewQuest
        changes = QuestChanges
        answer = Quest

        async def check_parent(self, tx: Reading, path: Row) -> None:
            await tx.find(CAMPAIGNS, {"id": path["campaign_id"]})

        async def report(self, tx: Writing, change: Change) -> None:
            tx.publish(QuestUpdated(...))

    app.add_routes(Quests(access, store).routes())

Members read, and editors change. A creation can be repeated with its `Idempotency-Key`. A change and a deletion may
start from a revision (`If-Match`). Answers have the headers of `beaconfire_kit.store`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from sqlalchemy import Table

from beaconfire_kit import errors
from beaconfire_kit.access import Access, Member, check_editor
from beaconfire_kit.answers import KEY_HEADER, answer, based_on, conflicts, idempotency_key, tag
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.models import Body
from beaconfire_kit.store import Reading, Row, Store, Writing, new_id
from beaconfire_kit.subjects import is_id
from beaconfire_kit.web import read_body

Operation = Literal["create", "update", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is about to be committed."""

    caller: Member
    operation: Operation
    row: Row
    """The thing after the change. A deleted one is as it was."""
    before: Row
    """The thing before the change. Empty if it was created."""
    fields: tuple[str, ...] = ()
    """The fields that changed, by their names on the wire. Those of a new thing are all that were given."""


class Collection(ABC):
    """Answers the five calls. A subclass defines the thing, and what its changes publish.

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
    answer: ClassVar[type[BaseModel]]

    def __init__(self, access: Access, store: Store[Writing]) -> None:
        self._access = access
        self._store = store

    @abstractmethod
    async def check_parent(self, tx: Reading, path: Row) -> None:
        """Raise `not_found` if the parent in the path does not exist. A deleted root may still have members."""

    @abstractmethod
    async def report(self, tx: Writing, change: Change) -> None:
        """Publish the events of a change. It may also change what depends on the thing."""

    async def lock_others(self, tx: Writing, path: Row, wanted: Row) -> None:  # noqa: B027  (most things refer to none)
        """Find the things that a new or changed thing refers to, before it is found itself. Raises `bad_request`."""

    async def given(self, tx: Writing, caller: Member) -> Row:
        """Return the columns of a new thing that its creator does not choose."""
        return {}

    def check(self, row: Row, fields: tuple[str, ...]) -> None:  # noqa: B027  (most fields are checked one by one)
        """Raise `bad_request` if the thing may not become what it is now. `fields` were changed."""

    def check_may(self, caller: Member, operation: Operation, row: Row) -> None:  # noqa: B027  (mostly the role decides)
        """Raise `forbidden` if an editor may not change or delete this thing."""

    async def empty(self, tx: Writing, row: Row) -> None:  # noqa: B027  (most things contain nothing)
        """Change what is inside a thing that is about to be deleted, and publish it."""

    def routes(self) -> list[web.RouteDef]:
        while_asking = self._access.while_asking
        return [
            web.get(self.path, self._list),
            web.post(self.path, while_asking(self._create)),
            web.get(self.thing_path, self._read),
            web.patch(self.thing_path, while_asking(self._change)),
            web.delete(self.thing_path, while_asking(self._delete)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        key = {**caller.path, **self._chosen(request)}
        async with self._store.reading() as tx:
            await self.check_parent(tx, caller.path)
            rows = await tx.find_all(self.table, key)
        return answer({self.plural: [self.show(row) for row in rows]}, tx.headers)

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
                parents = {**caller.path, **await self.given(tx, caller), "id": id_}
                row, fields = await tx.add(self.table, parents, values)
                self.check(row, fields)
                await self.report(tx, Change(caller, "create", row, {}, fields))
        return answer({self.word: self.show(row)}, {**tag(row), **await self._store.cursor_headers(tx)}, status=201)

    async def _read(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            row = await tx.find(self.table, caller.path)
        return answer({self.word: self.show(row)}, {**tag(row), **tx.headers})

    async def _change(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        revision = based_on(request)
        wanted = (await read_body(request, self.changes)).model_dump(exclude_unset=True)
        with conflicts(self.show):
            async with self._store.writing(caller.metadata) as tx:
                await self.lock_others(tx, caller.path, wanted)
                found = await tx.find(self.table, caller.path)
                self.check_may(caller, "update", found)
                row, fields = await tx.change(self.table, found, wanted, based_on=revision)
                self.check(row, fields)
                if fields:
                    await self.report(tx, Change(caller, "update", row, found, fields))
        return answer({self.word: self.show(row)}, {**tag(row), **await self._store.cursor_headers(tx)})

    async def _delete(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        revision = based_on(request)
        with conflicts(self.show):
            async with self._store.writing(caller.metadata) as tx:
                await self.lock_others(tx, caller.path, {})
                row = await tx.find(self.table, caller.path)
                self.check_may(caller, "delete", row)
                await self.empty(tx, row)
                await tx.delete(self.table, row, based_on=revision)
                await self.report(tx, Change(caller, "delete", row, row))
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

    def show(self, row: Row) -> dict[str, object]:
        """Return a thing as callers see it."""
        return self.answer.model_validate(row).model_dump(mode="json", by_alias=True)

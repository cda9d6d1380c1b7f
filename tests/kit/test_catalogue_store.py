"""Revisions of the catalogue in the broker: pushes, races between them, and what is left of one that died."""

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.fragment import InvalidFragment
from beaconfire_kit.catalogue_store import (
    KV_STREAM,
    CannotRestore,
    CatalogueError,
    CatalogueLost,
    CatalogueStore,
    Committed,
    RemovalRefused,
    StreamLacksSubjects,
    UnknownRevision,
    digest_of,
)
from beaconfire_kit.catalogue_store.reading import _fragments
from beaconfire_kit.key_value import BucketMissing, KeyValue
from beaconfire_kit.stream_setup import add_stream_subjects, declare_stream
from tests.broker_changes import call_api
from tests.conftest import At, connected
from tests.kit.fragments import document, note, with_root
from tests.kit.pusher import Pusher
from tests.proxy import Proxy

PATIENCE_S = 30.0


async def check_whole(nc: Client) -> None:
    """Check that stream and bucket agree, and that everything in the bucket is there for a reason."""
    store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
    head, committed, markers = await store.head(), await store.committed(), await store.markers()
    assert committed is not None
    assert (committed.revision, committed.offset) == (head.revision, head.marker)
    assert [marker.previous for marker in markers] == [None, *(marker.revision for marker in markers[:-1])]
    revisions = [revision.number for revision in await store.revisions()]
    assert revisions == [marker.revision for marker in reversed(markers)]
    kept = {key for key in await bucket.keys("rev.*") if await bucket.get(key) is not None}
    assert kept == {f"rev.{number}" for number in revisions}
    used = {digest for marker in markers for digest in marker.fragments.values()}
    documents = {key for key in await bucket.keys("fragment.*") if await bucket.get(key) is not None}
    assert documents == {f"fragment.{digest}" for digest in used}


async def test_a_push_makes_one_revision_of_all_its_fragments(stream: NatsServer) -> None:
    """Two fragments of one push become one revision with one marker, and their documents can be read again."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        before = await store.head()

        pushed = await store.push([document("logistics", "a"), document("billing", "b")], by="test")

        after = await store.head()
        assert (pushed.changed, after.revision, after.marker) == (True, (before.revision or 0) + 1, pushed.offset)
        fragments = await store.fragments(after.fragments)
        assert fragments["logistics"].document == document("logistics", "a")
        assert fragments["billing"].document == document("billing", "b")
        await check_whole(nc)


async def test_a_push_of_what_is_there_makes_no_revision(stream: NatsServer) -> None:
    """The second push of the same document writes nothing, and returns the revision that has it."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        first = await store.push([document("logistics", "a")], by="test")

        again = await store.push([document("logistics", "a")], by="test")

        assert (again.changed, again.revision, again.offset) == (False, first.revision, first.offset)
        assert (await store.markers())[-1].offset == first.offset


async def test_declaring_the_stream_again_pushes_nothing(stream: NatsServer) -> None:
    """A second setup finds the built-in fragments and leaves the catalogue as it is."""
    async with connected(stream, "setup") as nc:
        before = await CatalogueStore(nc).head()

        await declare_stream(nc)

        assert await CatalogueStore(nc).head() == before


async def test_setup_can_leave_the_built_in_fragments_out(nats_server: NatsServer) -> None:
    """Without built-in fragments, the bucket is there and nothing is committed."""
    async with connected(nats_server, "setup") as nc:
        await declare_stream(nc, builtin=False)

        assert await CatalogueStore(nc).committed() is None


async def test_a_rollback_is_a_new_revision(stream: NatsServer) -> None:
    """A rollback commits a new revision with the fragments of the old one."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        first = await store.push([document("logistics", "a")], by="test")
        second = await store.push([document("logistics", "b")], by="test")

        back = await store.rollback(first.revision, by="test")

        assert back.revision == second.revision + 1
        assert (await store.load(back.revision)).fragments["logistics"].title == "a"
        assert (await store.revisions())[0].about == f"rollback to {first.revision}"


async def test_a_rollback_to_an_unknown_revision_is_refused(stream: NatsServer) -> None:
    async with connected(stream, "catalogue") as nc:
        with pytest.raises(UnknownRevision, match="no revision 77"):
            await CatalogueStore(nc).rollback(77, by="test")


async def test_a_removed_fragment_is_not_in_the_next_revision(stream: NatsServer) -> None:
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        await store.push([document("logistics", "a"), document("billing", "b")], by="test")

        await store.remove(["billing"], by="test")

        head = await store.head()
        assert "logistics" in head.fragments
        assert "billing" not in head.fragments
        await check_whole(nc)


async def test_pushes_at_the_same_time_all_commit_one_after_the_other(stream: NatsServer) -> None:
    """Six pushers at once: each commits, none undoes another's fragment, and nothing is left of the lost attempts."""
    async with connected(stream, "catalogue") as nc, asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(CatalogueStore(nc).push([document(f"team-{number}")], by="test"))

    async with connected(stream, "catalogue") as nc:
        assert {f"team-{number}" for number in range(6)} <= set((await CatalogueStore(nc).head()).fragments)
        await CatalogueStore(nc).push([document("last", "x")], by="test")
        await check_whole(nc)


async def test_two_pushers_in_processes_of_their_own_both_commit(stream: NatsServer, tmp_path: Path) -> None:
    pushers = [Pusher(stream, tmp_path / name, {"push": [document(name)]}) for name in ("logistics", "billing")]

    revisions = {(await one.outcome())["revision"] for one in pushers}

    assert len(revisions) == 2
    async with connected(stream, "catalogue") as nc:
        assert {"logistics", "billing"} <= set((await CatalogueStore(nc).head()).fragments)


async def steps(server: NatsServer, folder: Path) -> range:
    """Return the numbers of the requests that an undisturbed push makes."""
    counted = await Pusher(server, folder / "counted.log", {"push": [document("counted")]}).outcome()
    return range(1, counted["requests"] + 1)


async def test_a_push_killed_at_any_step_leaves_a_whole_catalogue(stream: NatsServer, tmp_path: Path) -> None:
    """Whatever request a pusher is killed before, the next push finds the catalogue whole and clears up behind it."""
    for step in await steps(stream, tmp_path):
        change = {"push": [document("logistics", f"killed at {step}")]}
        killed = Pusher(stream, tmp_path / f"{step}.log", change, "kill", str(step))
        await killed.end()
        assert killed.process.exit_code == -signal.SIGKILL

        async with connected(stream, "catalogue") as nc:
            pushed = await CatalogueStore(nc).push([document("billing", f"after {step}")], by="test")

            assert pushed.changed
            await check_whole(nc)


async def test_setup_completes_a_push_that_died_after_its_marker(stream: NatsServer) -> None:
    """A marker without `committed` counts: the next setup writes it down."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        before = await store.committed()
        pushed = await store.push([document("logistics", "a")], by="test")
        assert before is not None
        bucket = KeyValue(nc, "CATALOGUE")
        await bucket.put("committed", json.dumps({**vars_of(before)}).encode())

        await store.heal()

        healed = await store.committed()
        assert healed is not None
        assert (healed.revision, healed.offset) == (pushed.revision, pushed.offset)


def vars_of(committed: Committed) -> dict[str, object]:
    return {"revision": committed.revision, "offset": committed.offset, "epoch": committed.epoch}


async def test_a_push_frozen_at_any_step_takes_no_later_push_back(stream: NatsServer, tmp_path: Path) -> None:
    """A pusher that was frozen while another pushed checks itself against the new head and commits after it."""
    for step in await steps(stream, tmp_path):
        change = {"push": [document("logistics", f"frozen at {step}")]}
        pusher = Pusher(stream, tmp_path / f"{step}.log", change, "stop", str(step))
        assert await pusher.until_frozen()
        async with connected(stream, "catalogue") as nc:
            other = await CatalogueStore(nc).push([document("billing", f"during {step}")], by="test")

        pusher.process.thaw()
        frozen = await pusher.outcome()

        async with connected(stream, "catalogue") as nc:
            store = CatalogueStore(nc)
            committed = await store.committed()
            assert committed is not None
            catalogue = await store.load(committed.revision)
            assert catalogue.fragments["billing"].title == f"during {step}"
            assert catalogue.fragments["logistics"].title == f"frozen at {step}"
            assert committed.revision == max(frozen["revision"], other.revision)


async def test_a_marker_whose_acknowledgement_is_lost_commits_once(stream: NatsServer) -> None:
    """The broker stores the marker and its answer is lost: the push learns that it has committed."""
    proxy = Proxy(stream.port)

    def hold_the_answer(chunk: bytes) -> bytes:
        if b"HPUB catalogue " in chunk and not seen.is_set():
            proxy.flowing.clear()
            seen.set()
        return chunk

    seen = asyncio.Event()
    proxy._rewrite = hold_the_answer
    async with proxy.running(), connected(At(f"nats://127.0.0.1:{proxy.port}", stream.passwords), "catalogue") as nc:
        pushing = asyncio.create_task(CatalogueStore(nc).push([document("logistics", "a")], by="test"))
        await asyncio.wait_for(seen.wait(), PATIENCE_S)
        async with connected(stream, "catalogue") as direct:
            await until_marked(direct, "logistics")
        proxy.cut()
        proxy.flowing.set()

        pushed = await asyncio.wait_for(pushing, PATIENCE_S)

    async with connected(stream, "catalogue") as nc:
        markers = await CatalogueStore(nc).markers()
        assert [marker.revision for marker in markers].count(pushed.revision) == 1
        assert markers[-1].offset == pushed.offset
        await check_whole(nc)


async def until_marked(nc: Client, name: str) -> None:
    """Wait until the stream's last marker has this fragment."""
    async with asyncio.timeout(PATIENCE_S):
        while name not in (await CatalogueStore(nc).head()).fragments:
            await asyncio.sleep(0)


async def test_a_lost_marker_is_sent_again(stream: NatsServer) -> None:
    """The marker itself is lost on its way: the push sends it again, and commits once."""
    proxy = Proxy(stream.port)
    proxy.swallow = lambda chunk: b"HPUB catalogue " in chunk and not proxy.swallowed.is_set()
    async with proxy.running(), connected(At(f"nats://127.0.0.1:{proxy.port}", stream.passwords), "catalogue") as nc:
        pushed = await asyncio.wait_for(CatalogueStore(nc).push([document("a", "a")], by="test"), PATIENCE_S)

    assert proxy.swallowed.is_set()
    async with connected(stream, "catalogue") as nc:
        assert (await CatalogueStore(nc).head()).revision == pushed.revision
        await check_whole(nc)


async def test_a_revision_counts_after_its_marker_is_gone(stream: NatsServer) -> None:
    """Retention has removed the markers: the bucket still knows the catalogue, and the next push follows it."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        pushed = await store.push([document("logistics", "a")], by="test")
        await call_api(stream, "STREAM.PURGE.EVENTS", {"filter": "catalogue"})

        head = await store.head()
        following = await store.push([document("billing", "b")], by="test")

        assert (head.revision, head.marker) == (pushed.revision, 0)
        assert following.revision == pushed.revision + 1
        assert (await store.last_marker() or pytest.fail("no marker")).previous == pushed.revision


async def test_a_new_stream_keeps_the_catalogue(stream: NatsServer) -> None:
    """The stream is deleted and declared again: a new epoch, and the catalogue is the same."""
    async with connected(stream, "setup") as nc:
        store = CatalogueStore(nc)
        pushed = await store.push([document("logistics", "a")], by="test")
        await call_api(stream, "STREAM.DELETE.EVENTS")

        epoch = await declare_stream(nc)

        committed = await store.committed()
        assert committed is not None
        assert committed.revision == pushed.revision
        assert committed.epoch != epoch
        assert "logistics" in (await store.head()).fragments


async def test_old_revisions_are_deleted_once_nothing_needs_them(stream: NatsServer) -> None:
    """Thirty pushes, all markers gone: 20 revisions are kept for a rollback, and only their documents."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        for number in range(30):
            await store.push([document("logistics", f"version {number}")], by="test")
        await call_api(stream, "STREAM.PURGE.EVENTS", {"filter": "catalogue"})

        await store.push([document("logistics", "the last one")], by="test")

        revisions = await store.revisions()
        bucket = KeyValue(nc, "CATALOGUE")
        documents = [key for key in await bucket.keys("fragment.*") if await bucket.get(key) is not None]
        assert len(revisions) == 20
        used = {digest for revision in revisions for digest in revision.fragments.values()}
        assert {f"fragment.{digest}" for digest in used} == set(documents)


async def test_revisions_are_kept_while_the_stream_has_events_of_their_time(stream: NatsServer) -> None:
    """Thirty pushes with their markers in the stream: every revision is kept."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        for number in range(30):
            await store.push([document("logistics", f"version {number}")], by="test")

        assert len(await store.revisions()) >= 30
        await check_whole(nc)


async def test_a_slow_push_does_not_write_an_older_revision_back(stream: NatsServer) -> None:
    """`committed` only goes forward."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        first = await store.push([document("logistics", "a")], by="test")
        second = await store.push([document("logistics", "b")], by="test")

        await store._write_committed(Committed(first.revision, first.offset, "any"))

        assert (await store.committed() or pytest.fail("nothing")).revision == second.revision


async def test_a_broker_without_the_bucket_says_what_to_run(nats_server: NatsServer) -> None:
    async with connected(nats_server, "catalogue") as nc:
        with pytest.raises(BucketMissing, match="beaconfire setup"):
            await CatalogueStore(nc).committed()


async def test_a_lost_document_is_reported(stream: NatsServer) -> None:
    """A document that is gone cannot be read: the error says how to restore it."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        await store.push([document("logistics", "a")], by="test")
        bucket = KeyValue(nc, "CATALOGUE")
        key = f"fragment.{digest_of(document('logistics', 'a'))}"
        entry = await bucket.last(key)
        assert entry is not None
        await bucket.delete(key, after=entry.at)

        with pytest.raises(CatalogueLost, match="beaconfire catalogue restore"):
            await store.document(digest_of(document("logistics", "a")))


async def test_only_setup_and_catalogue_may_push(stream: NatsServer) -> None:
    """The broker refuses a marker and a revision from every other user."""
    for user in ("operator", "publisher", "gateway", "auth", "scheduler"):
        async with connected(stream, user) as nc:
            for subject in ("catalogue", "$KV.CATALOGUE.rev.99", "$KV.CATALOGUE.committed"):
                with pytest.raises(broker.MayNotPublish):
                    await broker.publish(nc, subject, b"{}", message_id="m")


async def test_a_push_waits_for_the_stream_to_take_a_new_root(stream: NatsServer) -> None:
    """A root whose subjects the stream does not store is refused, and nothing of the push remains."""
    async with connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        before = await store.head(), await bucket.keys(">")

        with pytest.raises(StreamLacksSubjects, match=r"depot\.>") as refused:
            await store.push([with_root("logistics", "depot")], by="test")

        assert (await store.head(), await bucket.keys(">")) == before
        async with connected(stream, "setup") as setup:
            await add_stream_subjects(setup, refused.value.subjects)
        assert (await store.push([with_root("logistics", "depot")], by="test")).changed


async def test_setup_keeps_the_subjects_of_roots_that_were_pushed(stream: NatsServer) -> None:
    async with connected(stream, "setup") as setup:
        await add_stream_subjects(setup, ["depot.>"])

        await declare_stream(setup)

        assert "depot.>" in (await broker.config_of(setup, broker.STREAM))["subjects"]


async def test_a_fragment_that_clashes_with_another_leaves_nothing_behind(stream: NatsServer) -> None:
    """Two fragments declare the same type: the push is refused, and the bucket and the stream are as before."""
    async with connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        await store.push([note("logistics")], by="test")
        before = await store.head(), await bucket.keys(">")

        with pytest.raises(InvalidFragment, match="belongs to the fragment `logistics`"):
            await store.push([note("billing")], by="test")

        assert (await store.head(), await bucket.keys(">")) == before


async def test_a_loaded_catalogue_has_the_types_of_all_fragments(stream: NatsServer) -> None:
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        pushed = await store.push([note("logistics", "parcel.noted")], by="test")

        catalogue = await store.load(pushed.revision)

        assert catalogue.revision == pushed.revision
        assert {"parcel.noted", "settlement_updated", "member_changed"} <= set(catalogue.types)


@pytest.fixture(name="lost")
async def _lost(stream: NatsServer) -> NatsServer:
    """A broker whose bucket was lost after two pushes. Setup has created an empty one."""
    async with connected(stream, "setup") as nc:
        await CatalogueStore(nc).push([document("logistics", "old")], by="test")
        await CatalogueStore(nc).push([document("logistics", "new"), document("billing")], by="test")
        await call_api(stream, f"STREAM.DELETE.{KV_STREAM}")
        await CatalogueStore(nc).prepare()
    return stream


async def test_a_lost_bucket_is_restored_from_the_documents(lost: NatsServer) -> None:
    """With the documents that count now, the revision is there again. What only older events need is reported."""
    async with connected(lost, "catalogue") as nc:
        store = CatalogueStore(nc)
        markers = await store.markers()
        given = [*builtin.documents().values(), document("billing"), document("logistics", "new")]

        restored = await store.restore(given, by="test")

        assert restored.revision == markers[-1].revision
        assert [str(one).split(" (")[0] for one in restored.missing] == [
            f"logistics as of revision {markers[-2].revision}"
        ]
        assert await store.markers() == markers
        assert (await store.load(restored.revision)).fragments["logistics"].title == "new"
        assert (await store.committed() or pytest.fail("nothing")).offset == markers[-1].offset


async def test_older_revisions_are_restored_by_a_second_call(lost: NatsServer) -> None:
    """The older document is found and given later: then nothing is missing any more, and pushes go on."""
    async with connected(lost, "catalogue") as nc:
        store = CatalogueStore(nc)
        given = [*builtin.documents().values(), document("billing")]
        first = await store.restore([*given, document("logistics", "new")], by="test")

        again = await store.restore([document("logistics", "old")], by="test")

        assert (again.written, again.missing) == ((first.missing[0].revision,), ())
        assert (await store.push([document("billing", "later")], by="test")).changed
        await check_whole(nc)


async def test_a_restore_with_another_version_is_refused_and_writes_nothing(lost: NatsServer) -> None:
    """The stream's marker has the digests, so a document that differs is noticed, and named."""
    async with connected(lost, "catalogue") as nc:
        store = CatalogueStore(nc)
        given = [*builtin.documents().values(), document("logistics", "newer")]

        with pytest.raises(CannotRestore, match=r"logistics as of .*another version of it\n.*billing .*not given"):
            await store.restore(given, by="test")

        assert await KeyValue(nc, "CATALOGUE").keys(">") == []


async def test_another_version_can_take_the_place_of_a_lost_one(lost: NatsServer) -> None:
    """If a document is nowhere, another version of it lets gateways go on."""
    async with connected(lost, "catalogue") as nc:
        store = CatalogueStore(nc)
        given = [*builtin.documents().values(), document("billing"), document("logistics", "newer")]

        restored = await store.restore(given, by="test", accept_different=True)

        assert restored.missing == ()
        assert (await store.push([document("logistics", "newer")], by="test")).changed


async def test_setup_reports_a_lost_bucket(lost: NatsServer) -> None:
    """Setup does not push over revisions that it cannot read."""
    _fragments.clear()
    async with connected(lost, "setup") as nc:
        with pytest.raises(CatalogueLost, match="beaconfire catalogue restore"):
            await declare_stream(nc)


async def test_a_bucket_and_its_markers_are_restored_as_given(stream: NatsServer) -> None:
    """The markers are too old for the stream and the manifest is lost: nothing contradicts the given documents."""
    async with connected(stream, "setup") as nc:
        store = CatalogueStore(nc)
        committed = await store.committed()
        assert committed is not None
        bucket = KeyValue(nc, "CATALOGUE")
        manifest = await bucket.last(f"rev.{committed.revision}")
        assert manifest is not None
        await bucket.delete(f"rev.{committed.revision}", after=manifest.at)
        await call_api(stream, "STREAM.PURGE.EVENTS", {"filter": "catalogue"})

        restored = await store.restore([document("logistics")], by="test")

        assert restored.revision == committed.revision
        assert set((await store.load(committed.revision)).fragments) == {"logistics"}


async def test_a_push_that_breaks_valid_events_is_refused_and_leaves_nothing(stream: NatsServer) -> None:
    """A narrower bound in the same version: the refusal says what to do, and everything is as before."""
    async with connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        await store.push([note("logistics", longest=100)], by="test")
        before = await store.head(), await bucket.keys(">")

        with pytest.raises(InvalidFragment, match="declare version 2 beside it"):
            await store.push([note("logistics", longest=50)], by="test")

        assert (await store.head(), await bucket.keys(">")) == before


async def test_a_push_says_what_it_changed(stream: NatsServer) -> None:
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        await store.push([note("logistics", longest=100)], by="test")

        pushed = await store.push([note("logistics", "note.written", "note.read", longest=200)], by="test")

        changes = pushed.changes["logistics"]
        assert (len(changes.added), len(changes.changed), changes.removed, changes.breaks) == (1, 1, (), ())


async def test_a_removal_is_a_push_of_its_own(stream: NatsServer) -> None:
    """A type that the file has no more is only removed if that was asked for, and if nothing else changes."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        await store.push([note("logistics", "note.written", "note.read")], by="test")

        with pytest.raises(RemovalRefused, match=r"`note.read` version 1 is removed.*\n.*--allow-removals"):
            await store.push([note("logistics", "note.written")], by="test")
        with pytest.raises(RemovalRefused, match="is a push of its own"):
            await store.push([note("logistics", "note.written", "note.sent")], by="test", allow_removals=True)
        removed = await store.push([note("logistics", "note.written")], by="test", allow_removals=True)

        assert removed.changes["logistics"].removed == ("`note.read` version 1 is removed.",)
        assert "note.read" not in (await store.load(removed.revision)).types


async def test_a_push_that_lost_a_race_is_checked_against_the_winner(stream: NatsServer, tmp_path: Path) -> None:
    """Frozen before its marker, a push finds that another one took its type: it is refused, and nothing is left."""
    change = {"push": [note("logistics")]}
    whole = await Pusher(stream, tmp_path / "counted.log", {"push": [document("counted")]}).outcome()
    pusher = Pusher(stream, tmp_path / "frozen.log", change, "stop", str(whole["requests"] // 2))
    assert await pusher.until_frozen()
    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).push([note("billing")], by="test")

        pusher.process.thaw()
        await pusher.end()

        assert pusher.process.exit_code == 1
        assert "belongs to the fragment" in "\n".join(pusher.process.last_lines)
        await check_whole(nc)


async def test_an_older_setup_leaves_later_built_in_fragments_alone(stream: NatsServer) -> None:
    """A later Beaconfire has pushed a fragment of a higher version: this one's setup does not take it back."""
    later = {**builtin.documents()["user"], "info": {"title": "User events", "version": str(builtin.VERSION + 1)}}
    async with connected(stream, "setup") as nc:
        store = CatalogueStore(nc)
        pushed = await store.push([later], by="a later setup")

        await declare_stream(nc)

        head = await store.head()
        assert head.revision == pushed.revision
        assert head.fragments["user"] == digest_of(later)


async def test_a_later_setup_brings_built_in_fragments_up_to_date(stream: NatsServer) -> None:
    earlier = {**builtin.documents()["user"], "info": {"title": "Earlier title", "version": "0"}}
    async with connected(stream, "setup") as nc:
        store = CatalogueStore(nc)
        await store.push([earlier], by="an earlier setup")

        await declare_stream(nc)

        assert (await store.head()).fragments["user"] == digest_of(builtin.documents()["user"])


async def test_setup_takes_nothing_away_from_a_built_in_fragment(stream: NatsServer) -> None:
    """A fragment of the same version has a type that ours lacks: setup leaves it alone."""
    newer = json.loads(json.dumps(builtin.documents()["user"]))
    channel = next(iter(newer["channels"].values()))
    channel["messages"]["notification.seen"] = {"payload": {"type": "object"}}
    async with connected(stream, "setup") as nc:
        store = CatalogueStore(nc)
        pushed = await store.push([newer], by="test")

        await declare_stream(nc)

        assert (await store.head()).revision == pushed.revision
        assert "notification.seen" in (await store.load(pushed.revision)).types


async def test_a_message_among_the_markers_that_is_none_stops_no_push(stream: NatsServer) -> None:
    """Somebody publishes by hand on the markers' subject: the catalogue stays, and the next push commits."""
    async with connected(stream, "setup") as nc:
        store = CatalogueStore(nc)
        before = await store.head()
        for number, body in enumerate((b"hello", b'{"revision": "7", "previous": null, "fragments": {}}', b"[]")):
            offset = await broker.publish(nc, "catalogue", body, message_id=f"by-hand-{number}")

            assert await store.head() == replace(before, marker=offset)

        assert (await store.push([document("logistics")], by="test")).revision == (before.revision or 0) + 1


async def test_a_document_of_a_later_version_is_reported_as_such(stream: NatsServer) -> None:
    """A later Beaconfire has pushed what this one cannot read: the error does not blame the caller's file."""
    later = document("logistics") | {"asyncapi": "4.0.0"}
    async with connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        pushed = await store.push([document("logistics")], by="test")
        await bucket.put(f"fragment.{digest_of(document('logistics'))}", json.dumps(later).encode())
        _fragments.clear()

        with pytest.raises(CatalogueError, match="Use the version that pushed it, or a later one"):
            await store.load(pushed.revision)


async def test_a_stream_that_takes_no_marker_refuses_a_push_which_leaves_nothing(stream: NatsServer) -> None:
    """The stream was declared by an earlier version: the refusal says what to run, and the bucket is as before."""
    async with connected(stream, "setup") as setup, connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        before = await store.head(), {key: await bucket.get(key) for key in await bucket.keys(">")}
        config = await broker.config_of(setup, broker.STREAM)
        subjects = [subject for subject in config["subjects"] if subject != "catalogue"]
        await broker.call_api(setup, f"STREAM.UPDATE.{broker.STREAM}", config | {"subjects": subjects})

        with pytest.raises(broker.BrokerRefused, match="beaconfire setup"):
            await store.push([document("logistics")], by="test")

        after = {key: value for key in await bucket.keys(">") if (value := await bucket.get(key)) is not None}
        assert (await store.head(), after) == before


async def test_keys_written_by_hand_stop_no_push(stream: NatsServer) -> None:
    async with connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        for key in ("rev.abc", "rev.40", "fragment.abc"):
            await bucket.put(key, b"by hand")

        pushed = await store.push([document("logistics")], by="test")

        assert pushed.revision == 41
        assert [one.number for one in await store.revisions()] == [41, 1]


@pytest.mark.parametrize("key", ["committed", "rev.1", "fragment"])
@pytest.mark.parametrize(
    "value", [b"garbage", b"[]", b"{}", b"7", b"[" * 50_000], ids=["garbage", "list", "empty", "number", "deep"]
)
async def test_a_record_that_no_push_wrote_is_named_and_put_right_by_restore(
    stream: NatsServer, key: str, value: bytes
) -> None:
    """Nothing fails with an unexpected error. The text says what to delete, and that `restore` writes it again."""
    async with connected(stream, "catalogue") as nc:
        store, bucket = CatalogueStore(nc), KeyValue(nc, "CATALOGUE")
        head = await store.head()
        if key == "fragment":
            key = f"fragment.{head.fragments['campaign']}"
        await bucket.put(key, value)
        _fragments.clear()

        async def read() -> None:
            await store.committed()
            await store.load(await store.head())
            await store.load(1)

        with pytest.raises(CatalogueError, match=r"broken|cannot read the document|no revision 1"):
            await read()

        entry = await bucket.last(key)
        assert entry is not None
        await bucket.delete(key, after=entry.at)
        await store.restore(builtin.documents().values(), by="test")
        assert (await store.load(await store.head())).revision == 1
        await check_whole(nc)


async def test_a_later_version_may_write_more_about_the_revision_that_counts(stream: NatsServer) -> None:
    """A deployment that goes back to this version can still read it."""
    async with connected(stream, "catalogue") as nc:
        committed = await CatalogueStore(nc).committed()
        value = {"revision": 1, "offset": 2, "epoch": "e", "of": "later"}
        await KeyValue(nc, "CATALOGUE").put("committed", json.dumps(value).encode())

        assert await CatalogueStore(nc).committed() == Committed(1, 2, "e") != committed

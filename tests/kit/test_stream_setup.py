"""The subjects of the stream: the built-in ones, and those of every root that a catalogue ever declared."""

import json

from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.broker import BUILT_IN_ROOTS, STREAM, STREAM_SUBJECTS
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.stream_setup import add_catalogue_subjects, add_stream_subjects, declare_stream
from tests.conftest import connected
from tests.kit.fragments import with_root


async def subjects(nc: Client) -> set[str]:
    return set((await broker.config_of(nc, STREAM))["subjects"])


async def push_depot(setup: Client) -> None:
    await add_stream_subjects(setup, ["depot.>"])
    await CatalogueStore(setup).push([with_root("logistics", "depot")], by="test")


def test_built_in_roots_are_those_of_the_built_in_fragments() -> None:
    assert set(BUILT_IN_ROOTS) == Catalogue.of(1, builtin.fragments()).root_kinds


async def test_setup_keeps_the_roots_of_the_catalogue_and_of_removed_fragments(stream: NatsServer) -> None:
    """The history may have events of a removed root."""
    async with connected(stream, "setup") as setup:
        await push_depot(setup)
        await CatalogueStore(setup).remove(["logistics"], by="test")

        await declare_stream(setup)

        assert await subjects(setup) == {*STREAM_SUBJECTS, "depot.>"}


async def test_stream_that_is_made_again_takes_the_roots_of_the_catalogue(stream: NatsServer) -> None:
    async with connected(stream, "setup") as setup:
        await push_depot(setup)
        await setup.request(f"$JS.API.STREAM.DELETE.{STREAM}", b"", timeout=5)

        await declare_stream(setup)

        assert await subjects(setup) == {*STREAM_SUBJECTS, "depot.>"}


async def test_roots_that_a_late_writer_took_away_are_added_again(stream: NatsServer) -> None:
    """A pusher that was frozen writes the subjects as it had read them before another push."""
    async with connected(stream, "setup") as setup:
        config = await broker.config_of(setup, STREAM)
        await push_depot(setup)
        late = {**config, "subjects": [*config["subjects"], "truck.>"]}
        answer = await setup.request(f"$JS.API.STREAM.UPDATE.{STREAM}", json.dumps(late).encode(), timeout=5)
        assert "error" not in json.loads(answer.data)

        added = await add_catalogue_subjects(setup)

        assert added == ["depot.>"]
        assert await subjects(setup) == {*STREAM_SUBJECTS, "depot.>", "truck.>"}


async def test_declaring_again_keeps_more_room_that_an_operator_gave_the_stream(stream: NatsServer) -> None:
    """Otherwise the next upgrade would delete the oldest events."""
    async with connected(stream, "setup") as nc:
        config = await broker.config_of(nc, STREAM)
        more = config | {"max_bytes": config["max_bytes"] + 1_000_000, "max_age": 2 * config["max_age"]}
        await broker.call_api(nc, f"STREAM.UPDATE.{STREAM}", more)
        await declare_stream(nc)
        after = await broker.config_of(nc, STREAM)

    assert (after["max_bytes"], after["max_age"]) == (more["max_bytes"], more["max_age"])

"""The buckets of the gateways: setup makes them, only gateways write them, and a restarted broker still has them."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire.broker_users import USERS
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.broker import NS, MayNotPublish, WrongSequence
from beaconfire_kit.gateway_buckets import BUCKETS, SOCKETIO_SESSIONS, GatewayBucket
from beaconfire_kit.key_value import BucketMissing, KeyValue
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected

every_bucket = pytest.mark.parametrize("bucket", BUCKETS.values(), ids=BUCKETS)


async def config_of(nc: Client, bucket: GatewayBucket) -> dict[str, Any]:
    return await broker.config_of(nc, bucket.stream)


@every_bucket
async def test_gateway_writes_a_record_and_another_connection_reads_it(
    stream: NatsServer, bucket: GatewayBucket
) -> None:
    async with connected(stream, "gateway") as one, connected(stream, "gateway") as other:
        at = await KeyValue(one, bucket.name).try_to_put("a", b"record", after=0)
        found = await KeyValue(other, bucket.name).last("a")

    assert found is not None
    assert (found.value, found.at, found.deleted) == (b"record", at, False)


async def test_record_that_another_gateway_wrote_meanwhile_is_not_replaced(stream: NatsServer) -> None:
    async with connected(stream, "gateway") as nc:
        records = KeyValue(nc, SOCKETIO_SESSIONS)
        mine = await records.try_to_put("a", b"mine", after=0)
        await records.try_to_put("a", b"another's", after=mine)

        with pytest.raises(WrongSequence):
            await records.try_to_put("a", b"mine again", after=mine)

        assert await records.get("a") == b"another's"


@every_bucket
async def test_no_other_service_writes_records_of_gateways(stream: NatsServer, bucket: GatewayBucket) -> None:
    for user in {row.name for row in USERS} - {"gateway"}:
        async with connected(stream, user) as nc:
            with pytest.raises(MayNotPublish):
                await KeyValue(nc, bucket.name).try_to_put("a", b"forged", after=0)


@every_bucket
async def test_records_end_some_time_after_they_were_last_written(stream: NatsServer, bucket: GatewayBucket) -> None:
    async with connected(stream, "setup") as setup:
        config = await config_of(setup, bucket)

    assert config["max_age"] == bucket.kept_s * NS
    assert config["max_msgs_per_subject"] == 1


@every_bucket
async def test_bucket_and_its_records_outlive_a_restart_of_a_single_broker(
    stream: NatsServer, bucket: GatewayBucket
) -> None:
    """A broker forgets a bucket in memory when it restarts."""
    async with connected(stream, "gateway") as nc:
        await KeyValue(nc, bucket.name).try_to_put("a", b"record", after=0)
    await asyncio.to_thread(stream.stop)
    await asyncio.to_thread(stream.start)

    async with connected(stream, "gateway") as nc:
        assert await KeyValue(nc, bucket.name).get("a") == b"record"


@every_bucket
async def test_setup_makes_a_missing_bucket_and_keeps_the_records_of_one_that_is_there(
    stream: NatsServer, bucket: GatewayBucket
) -> None:
    async with connected(stream, "setup") as setup, connected(stream, "gateway") as nc:
        records = KeyValue(nc, bucket.name)
        await broker.call_api(setup, f"STREAM.DELETE.{bucket.stream}", {})
        with pytest.raises(BucketMissing, match="beaconfire setup"):
            await records.last("a")

        await declare_stream(setup)
        await records.try_to_put("a", b"record", after=0)
        await declare_stream(setup)

        assert await records.get("a") == b"record"


@every_bucket
async def test_setup_makes_a_bucket_again_whose_storage_must_change(stream: NatsServer, bucket: GatewayBucket) -> None:
    """A deployment that becomes a cluster keeps its records in memory, with three replicas."""
    async with connected(stream, "setup") as setup:
        declared = await config_of(setup, bucket)
        await broker.call_api(setup, f"STREAM.DELETE.{bucket.stream}", {})
        in_memory = {name: value for name, value in declared.items() if name != "persist_mode"} | {"storage": "memory"}
        await broker.call_api(setup, f"STREAM.CREATE.{bucket.stream}", in_memory)

        await declare_stream(setup)

        assert (await config_of(setup, bucket))["storage"] == declared["storage"] == "file"

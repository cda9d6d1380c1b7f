"""The publisher: the reference domain service. It stores campaigns and what is in them, and publishes each change.

* HTTP: `campaigns`, `settlements`, `structures`, `entities`, `world_time` and `clock`, mostly built on `collection`.
* `events_api` publishes events for services that do not use NATS.
* `access` checks callers, and `limits` what they publish.
* `store` has the tables. The kit's `store`, `changes`, `idempotency` and `answers` do the rest of a change.
* Workers, each a process of its own (`worker`): `scheduler` advances clocks, `rules_engine` applies `rules`.
* `app` builds the publisher.

A change goes through `access`, `collection` and `store`, which writes the row and the event in one transaction. The
kit's relay then publishes the event. The workers read events from the stream, and write their own to the same outbox.
"""

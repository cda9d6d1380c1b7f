"""The kit: the contract of events, and everything a domain service needs to publish them. Ours use it, yours can too.

* The contract: `subjects`, `catalogue` and `events`, `envelope`, `cursor`, `roles`, `errors`, `resync`.
* The broker: `broker`, `position`, `reading`, `lookup`, `consumer`.
* The database: `database`, `postgresql`, `migrations`, `inbox`, and the outbox (`outbox`, `outbox_table`, `relay`,
  `lease`).
* Things that several users change: `store`, `changes`, `idempotency`, their HTTP (`answers` and `collection`), and
  `founding`, which creates roots.
* Users and tokens: `access`, `authorization`, `tokens`, `jws`, `verifier`.
* HTTP: `web`, `serving`, `models`, `openapi`, `origins`, `forwarding`.
* The process: `service`, `settings`, `stopping`, `logs`, `metrics`.
* `seams`: all code that depends on private parts of aiohttp, nats-py or FastStream.

A change takes this route: `web` receives a request, `access` checks it, and the service changes its row in a
transaction of `database`. In the same transaction `outbox` stores the event's `envelope`. After the commit `relay`
publishes it through `broker`. `service` starts and stops all of these.
"""

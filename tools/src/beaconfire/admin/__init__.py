"""The admin page: one page for all gateways, auth, the outboxes and the broker. `beaconfire admin` runs it.

* `settings` and `operators` say who may open it: the operator token may act, the read token may only look.
* `services` asks the operations ports of all services, and `stream` asks the broker.
* `figures` reads metrics, and `watching` turns them into the last ten minutes of rates, every five seconds.
* `calls` answers the page, whose files are in `page`. `app` puts everything together.

The page's look, and the functions with which it builds its elements, are those of the demo's pages.
"""

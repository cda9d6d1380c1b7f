"""The gateway: holds the clients' sockets and gives each of them every event of its rooms, in order.

Its packages, bottom up; a package imports only those above it in this list:

* `wire`: the messages between clients and gateways, and their bytes.
* `fanout`: one event to the sessions of its rooms.
* `sessions`: one connected client, from its first message to its end.
* `presence`: who is in each room, who is typing there, and what a user has selected, over all gateways.
* `stream`: the broker's side: every event, complete and in order.
* `transports`: the sockets.
* `process`: the program.

The first four do no I/O, except `presence.exchange`. An event goes through `stream`, `fanout`, `wire` and `transports`.
A client's message goes through `transports`, `wire` and `sessions`, and its answer back.
"""

"""The gateway: holds the clients' sockets and gives each of them every event of its rooms, in order.

Its rooms, bottom up; a room imports only those above it in this list:

* `wire`: the messages between clients and gateways, and their bytes.
* `fanout`: one event to the sessions of its rooms.
* `sessions`: one connected client, from its first message to its end.
* `stream`: the broker's side: every event, complete and in order.
* `transports`: the sockets.
* `process`: the program.

The first three do no I/O. An event goes through `stream`, `fanout`, `wire` and `transports`; a client's message through
`transports`, `wire` and `sessions`, and its answer back.
"""

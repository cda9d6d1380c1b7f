"""Socket.IO v4 for unmodified clients: Engine.IO over WebSocket and over long polling, on any gateway process.

The route of a client: `handler` checks its request and opens a connection. The connection is one
`connection.EngineConnection`, which `namespaces` makes a Socket.IO client's: it has a `session` for each of its
namespaces. `recovery` keeps what such a session is recovered from. What carries the connection's packets is an object
of its own, because it may change: `polling_carrier` or `websocket_carrier`.

A client that lost its connection comes back to its `session`, on any gateway: its rooms are in a record of the broker
(`recovery`).

A connection belongs to one process, whose id its sid begins with. `polling` answers the requests of all connections,
and asks that process if a request arrives at another one. The way there: `questions` are about a connection, `sealed`
with its sid, and `transports.relay` carries them over the broker. `upgrade` lets a client go over to a WebSocket, at
any process.
`answers` are those of the protocol.
"""

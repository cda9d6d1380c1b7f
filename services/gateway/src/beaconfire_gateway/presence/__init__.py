"""Know who is in a room, over all gateways. No I/O, except `exchange`.

Nothing is stored. Each gateway answers for its own sessions (`own`), tells all others what changes, and keeps what they
tell (`peers`). `roster` is the sum of both, and `node` is all of that for one gateway. A test can run a hundred nodes
without a broker.

`view` decides what clients are told about a room, and when. `attendance` connects the node with the gateway's sessions.
`exchange` carries the messages of `messages` between gateways, over NATS.

`typing_users` tells the sessions of a room who is typing there. `selections` tells the sessions of a user what the user
has selected in another of them. Both need only `exchange`. `telling` sends many sessions the same message.
"""

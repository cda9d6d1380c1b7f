"""Deliver one event to the sessions of its rooms. No I/O: it writes through `targets`.

The route of an event:

1. `checking` checks it and makes an `entry` with its `route` (the rooms of its subject).
2. `ring` keeps the newest entries.
3. `hub` finds the sessions in these rooms.
4. `outbound` writes it to all of them, once in each turn of the loop.

`conflation` stands before `outbound` for events of conflated types. It holds an event back while a later one may
replace it.
`wanted_types` are the types that a session asks for.
`busiest_root` looks at the ring for the root that fills the stream.
"""

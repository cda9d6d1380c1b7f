"""Deliver one event to the sessions of its rooms. No I/O: it writes through `targets`.

The route of an event:

1. `checking` checks it and makes an `entry` with its `route` (the rooms of its subject).
2. `ring` keeps the newest entries.
3. `hub` finds the sessions in these rooms.
4. `outbound` writes it to all of them, once in each turn of the loop.

`busiest_root` looks at the ring for the root that fills the stream.
"""

"""One event to the sessions of its rooms. No I/O: it writes through `targets`.

The route of an event: `checking` checks it and makes an `entry` with its `route` (the rooms of its subject); `ring`
keeps the newest entries; `hub` knows which sessions are in these rooms; `outbound` writes it to all of them, once in
each turn of the loop. `busiest_root` looks at the ring for the root that fills the stream.
"""

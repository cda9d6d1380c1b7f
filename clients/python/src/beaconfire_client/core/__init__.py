"""The protocol without any I/O: what happened goes in, and what to do about it comes out.

* `connection`: attempts, the connection in use, its frames. The entry to all of it, with an example.
* `rooms`, `pace`, `roster`: rooms that consumers want, how fast to ask for them, who is there.
* `backoff`, `ways`, `renewal`, `health`, `sightings`, `timers`: one rule of the protocol each.
* `http_link`, `event_stream`: a connection over plain HTTP that looks like a socket.
* `actions`: what comes out.
* `protocol`, `cursor`, `sizes`, `error_table`: PROTOCOL.md as data and functions.

Nothing here imports asyncio, aiohttp or another part of the package. The clock and the source of chance are passed in.
"""

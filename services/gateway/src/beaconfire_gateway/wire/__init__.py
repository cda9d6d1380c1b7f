"""What clients and gateways say to each other, and as which bytes. No I/O.

A client's message: `framing` takes its payload out of the bytes, a dialect (`native`) makes a request of `messages` of
it. An answer and an event go the other way. `wire` is the pair of both, and the key under which an event's bytes are
kept, so that they are made once for all sessions that share it.
"""

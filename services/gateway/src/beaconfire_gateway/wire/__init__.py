"""What clients and gateways say to each other, and as which bytes. No I/O.

A client's message: a transport takes its payload out of `websocket_frames`, and a dialect (`native`) makes it a request
of `messages`. An answer or an event goes the other way: the dialect writes a payload, and a `framing` (text frames, or
`deflate`) makes it the bytes that are sent. `wire` is a dialect over a framing. All sessions with the same wire share
the bytes of an event.
"""

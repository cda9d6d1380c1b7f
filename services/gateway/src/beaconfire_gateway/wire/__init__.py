"""The messages between clients and gateways, and their bytes. No I/O.

The route of a client's message: a transport takes the payload out of `websocket_frames`, and a dialect (`native`) makes
it a request of `messages`. An answer or an event goes the other way. The dialect writes a payload, and a `framing`
(text or binary frames, `deflate`, or `event_stream` for server-sent events) makes the bytes of it. `wire` is a dialect
over a framing. All sessions with the same wire share the bytes of an event.

`msgpack` is the native dialect in MessagePack, in binary frames. `plain` is the dialect of clients that offer no
subprotocol. `batching` is the wire of clients that take several events in one message, and `message_list` that of long
polls.

Socket.IO is a dialect (`socketio`, with `socketio_packets`) over a framing of its own (`engineio`). `body_parts` finds
the payload in a publisher's JSON, and `compact_json` writes JSON of our own.
"""

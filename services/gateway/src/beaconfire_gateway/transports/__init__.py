"""The transports: how clients' bytes come in and go out.

The route of a WebSocket: `handshake` checks the request, with `admission`. `websocket_opening` opens it, and `handover`
takes its socket from aiohttp. `sockets` serves the descriptor from then on, and `socket_connection` is
the descriptor's life. `websocket_connection` reads frames, and `websocket` gives each message to its session.
`subprotocols` names the dialect. If sockets stay with aiohttp, `aiohttp_connection` and `aiohttp_websocket_connection`
take the places of `socket_connection` and `websocket_connection`. `any_websocket` is what both WebSockets share.

A client that offers no subprotocol speaks the plain protocol: `plain` starts its session from its address.

The route of a stream of server-sent events: `sse` reads the request (`wanted`, or the ticket of `sse_tickets`).
`event_stream` is its session, and `socket_event_stream` or `aiohttp_event_stream` carries it. `tcp_acks` tells whether
its client is still there.

The route of a long poll is one file, `poll`: the request (`wanted`), its session, and the answer. aiohttp serves it.

A new transport is made in these places, and in no other:

* Here, a file with its connection: a `sessions.connection.Connection`. On a socket of ours, mix `SocketConnection` or
  `WebSocketConnection` into a `SoleSession` or a `SharedConnection`. Its handler asks `Admission` first, and ends with
  `hand_over`. A WebSocket also needs the connection on `AiohttpWebSocketConnection`, and its handler uses
  `WebSocketOpening` for all of that. `handshake` is only for the dialects of `subprotocols`.
* If its clients say less than others when they come back, or come back often: methods of its session that a transport
  may override (`sessions.session.Session`). `socketio/recovery` and `poll` do.
* In `wire`, a framing if its bytes travel in another way, and a dialect if its clients speak another protocol. A
  dialect over the existing WebSocket is a line in `subprotocols`.
* In `process/app`, its routes: a line in `TRANSPORTS` and its handler in `_make_handlers`.
* In `pyproject.toml`, the place of each new file in the layers.
* In `tests/gateway/transports/ways.py`, a way into a gateway. The table of cases in `test_every_way` then runs on it.

`cors` has the rules for pages of other origins. `aiohttp_connection` is the life of a socket
that stays with aiohttp, and `write_buffers` notices when it has room again.
`tests/gateway/toy_transports.py` has two small transports as a model, one of them with its handler.
"""

"""The transports: how clients' bytes come in and go out.

A handler answers a transport's routes. It checks the request with `admission`, and goes on with a connection.

* WebSockets: `handshake` answers `GET /ws`. `subprotocols` names the dialect, and `websocket` is the session. A client
  that offers no subprotocol speaks the plain protocol: `plain` starts its session from its address.
* Server-sent events: `sse` answers `/sse`. It reads the request (`wanted`), or the ticket of `sse_tickets`.
  `event_stream` is the session, and `tcp_acks` tells whether its client is still there. `sse_messages` takes what the
  client says, at any process.
* Long polls: `poll` has the handler of `/poll`, its session, and the answer. aiohttp serves it.
* Socket.IO: the package `socketio`.

`relay` asks the process that has a connection, and answers when another one asks.

The way from a request to a connection: `websocket_opening` does the opening handshake of any WebSocket. `handover`
takes the socket from aiohttp, and `sockets` serves its descriptor from then on. If sockets stay with aiohttp,
`write_buffers` bounds what waits in them. So most classes exist twice:

    on a socket of ours       on a socket of aiohttp's         the same on both
    socket_connection         aiohttp_connection                                    the life of a connection
    websocket_connection      aiohttp_websocket_connection     any_websocket        frames and messages
    socket_event_stream       aiohttp_event_stream             event_stream         the answer of `/sse`

`websocket`, `plain` and `socketio/websocket_carrier` have both in one file.

A new transport is made in these places, and in no other:

* Here, a file with its connection: a `sessions.connection.Connection`. On a socket of ours, mix `SocketConnection` or
  `WebSocketConnection` into a `SoleSession` or a `SharedConnection`. Its handler asks `Admission` first, and ends with
  `hand_over`. A WebSocket also needs the connection on `AiohttpWebSocketConnection`, and its handler uses
  `WebSocketOpening` for all of that. `handshake` is only for the dialects of `subprotocols`.
* If its clients say less than others when they come back, or come back often: methods of its session that a transport
  may override (`sessions.session.Session`). `socketio/session` and `poll` do.
* In `wire`, a framing if its bytes travel in another way, and a dialect if its clients speak another protocol. A
  dialect over the existing WebSocket is a line in `subprotocols`.
* In `process/app`, its routes: a line in `TRANSPORTS` for each, and its handler in `_make_handlers`.
* In `cors`, a line if pages of other origins may use it.
* In `pyproject.toml`, the place of each new file in the layers.
* In `tests/gateway/transports/ways.py`, a way into a gateway. The table of cases in `test_every_way` then runs on it.

`tests/gateway/toy_transports.py` has two small transports as a model, one of them with its handler.
"""

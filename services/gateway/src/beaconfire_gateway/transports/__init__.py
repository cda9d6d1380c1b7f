"""The transports: how clients' bytes come in and go out.

The route of a WebSocket: `admission`, `upgrade` and `handshake` check the request, and `handover` takes its socket from
aiohttp. `sockets` serves the descriptor from then on, and `socket_connection` is the descriptor's life.
`websocket_connection` reads frames, and `websocket` gives each message to its session. `subprotocols` names the
dialect. `aiohttp_websocket` is the fallback that leaves the socket to aiohttp.

A new transport is made in these places, and in no other:

* Here, a file with its connection: a `sessions.connection.Connection`. On a socket of ours, mix `SocketConnection` or
  `WebSocketConnection` into a `SoleSession` or a `SharedConnection`. Its handler asks `Admission` first, and ends with
  `hand_over`. A handler of another protocol over WebSockets uses `upgrade` and not `handshake`, which is for the
  dialects of `subprotocols`. Such a handler cannot use the fallback `aiohttp_websocket`.
* In `wire`, a framing if its bytes travel in another way, and a dialect if its clients speak another protocol. A
  dialect over the existing WebSocket is a line in `subprotocols`.
* In `process/app`, its route.
* In `pyproject.toml`, the place of each new file in the layers.

`tests/gateway/toy_transports.py` has two small transports as a model, one of them with its handler.
"""

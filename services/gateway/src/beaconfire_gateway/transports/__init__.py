"""The sockets: how clients' bytes come in and go out.

The route of a connection: `handshake` checks the request and hands its socket over to `sockets`, where `websocket`
reads and writes frames for its session. `aiohttp_websocket` is the fallback that leaves the socket to aiohttp. A new
transport is a file here.
"""

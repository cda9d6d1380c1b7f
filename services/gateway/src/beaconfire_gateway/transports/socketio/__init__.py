"""Socket.IO v4 for unmodified clients: Engine.IO over WebSocket and over long polling, on any gateway process.

A client's connection is one `connection.EngineConnection`, with a session for each of its namespaces. What carries its
packets is an object of its own, because it may change: `websocket_carrier`.

A connection belongs to one process, whose id its sid begins with. `relay` asks that process when a request arrives at
another one.
"""

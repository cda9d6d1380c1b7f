"""Socket.IO v4 for unmodified clients: Engine.IO over WebSocket and over long polling, on any gateway process.

A session belongs to one process, whose id its sid begins with. `relay` asks that process when a request arrives at
another one.
"""

"""One connected client, from its first message to its end. No I/O, and no knowledge of framings and dialects.

The route of a client's message: `session` takes it, `limits` may refuse it, a handler in `requests` returns what to
reply. `authorization` decides who may hear what, `restore` and `catchup` bring what the client missed. The session is
written through a `connection`, or is its own (`sole_session`). `gateway` is what all sessions share. `timers`,
`probes`, `offset_waiters` and `fair_queue` are how sessions wait.
"""

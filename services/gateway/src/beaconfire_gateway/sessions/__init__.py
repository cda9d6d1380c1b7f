"""Run one connected client's session, from its first message to its end. No I/O, no framings, no dialects.

The route of a client's message: `session` takes it, `limits` may refuse it, a handler in `requests` returns what to
reply. `authorization` decides which rooms a user may hear. `restore` and `catchup` send missed events.

The route of a slow client: its connection calls `session.full`, and `catchup` feeds the session until it is level with
the gateway.

The route of a session to another process: `moving` ends it here, and has it go on there.

The session is written through a `connection`, or is its own (`sole_session`). `gateway` is what all sessions share.
`timers`, `probes`, `offset_waiters` and `fair_queue` are how sessions wait.
"""

"""Run one connected client's session, from its first message to its end. No I/O, no framings, no dialects.

The route of a client's message: `session` takes it, `limits` may refuse it, a handler in `requests` returns what to
reply. `authorization` decides which rooms a user may hear, and `room_limits` how many. A `subscription` is the result.

The route of a new client: `requests` answers its `connect` with the steps of `starting`. `automatic_rooms` names the
rooms that it joins without asking. `catchup` sends it what it missed, and `catchup_cache` keeps the bytes for others.
If it joins a room later, `restore` sends what it missed there. Both ask `reread` for conflated events below the
client's cursor that a gateway may have held back.

The route of a slow client: its connection calls `session.full`, and `catchup` feeds the session until it is level with
the gateway.

The route of a client that comes back every few seconds, with long polls: `continuations` remembers what it was
subscribed to, so that its next session continues the last one.

The route of a session to another process: `moving` ends it here, and has it go on there. If the whole gateway stops,
`goaway` tells every client when to leave.

The route of an event that a service sends to rooms and sessions of its choice: `sends`. Events of the stream do not
come through this package: see `fanout`.

The session is written through a `connection`, or is its own (`sole_session`). `gateway` is what all sessions share.
`timers`, `probes`, `offset_waiters` and `fair_queue` are how sessions wait.
"""

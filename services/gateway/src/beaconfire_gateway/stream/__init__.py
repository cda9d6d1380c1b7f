"""The broker's side: every event of the stream, complete and in order.

The route of an event: `intake` hears it, and `live_messages` checks whether it came from the stream. `sequence` puts it
in order, and `repair` reads missing ones. `delivery` hands it to the ring and to the sessions of its rooms, or to
`deadletters` if it is not valid. `history` reads the stream for sessions that were away for longer than the ring
remembers. `broker_contact` notices when the broker does not answer, and `check_schedule` decides when to check the
stream. `replay` makes all reads.
"""

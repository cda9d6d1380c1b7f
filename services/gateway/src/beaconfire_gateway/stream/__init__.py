"""The broker's side: every event of the stream, complete and in order.

The route of an event: `live` hears it, `sequence` puts it in order, `intake` has `repair` read what is missing, and
`delivery` hands it to the ring and the sessions, or to `deadletters` if it is not valid. `history` reads the stream for
sessions that were away for longer than the ring remembers. `replay` makes the reads of `repair` and `history`.
"""

"""The program: its settings, its start and stop, and the answers to operators.

`app` builds the gateway and stops it in order. With several workers, `supervisor` forks and watches them.
`worker_sessions` informs a worker when a client has moved to another one, and `worker_operations` answers operators for
all workers. `operators` answers for one process, `presence_answers` for the whole deployment, and `catalogue_document`
with the catalogue in force. `static_files` serves pages, and `gc_tuning` keeps the garbage collector away from the
sessions.
"""

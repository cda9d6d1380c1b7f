"""The program: its settings, how its parts are put together, and what operators see of it.

`app` builds the gateway and stops it in order. With several workers, `supervisor` forks and watches them,
`worker_sessions` tells one that a session of its own was replaced on another, and `worker_operations` answers operators
for all of them. `operators` answers for one process, `static_files` serves pages, `gc_tuning` keeps the garbage
collector away from the sessions.
"""

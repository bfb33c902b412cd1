"""The local host: one process, one port, no cloud.

`server` runs it, `http` bounds request heads, `sockets` holds the open WebSockets, `clocks` ends them
when their time is over, `run_tasks` generates replies.
"""

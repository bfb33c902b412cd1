"""The embedded backend: SQLite, with an append-only journal for the logs of live runs.

How a row gets to disk: every write is a job for one writer thread, which gathers the jobs that wait into
one transaction (group commit); reads are jobs for one reader thread and see committed data only.
"""

"""One generation of a reply while it is delivered.

`feed` is the part of a run's log that may be posted, `reader` one connection's cursor in it, `live_run`
writes it, `live_runs` finds it, `transport` is where frames leave.
"""

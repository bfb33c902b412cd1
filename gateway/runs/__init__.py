"""One generation of a reply while it is delivered.

::

    live_run                     a run that is generated here: merge, number, log, send
    live_runs                    all of those in this process
    appender                     hands its entries to the log until that keeps them
    feed                         the part of the log that may be posted
    reader                       one connection's cursor in it
    replay                       the log of a run that is over, told again
    transport                    where frames leave
    local_finder, shared_finder  find a run that is generated in this process, or in another one;
    found                        what they return
    followers                    which connections read what
    neighbours                   which connections are of one user
    beat, identities             what other processes ask of a run here, and whose identity holds
    unread                       ends what nobody has read for long
    run_starter                  has a run generated; a host says how
"""

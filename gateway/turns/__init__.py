"""One exchange, from command to saved reply.

::

    conversation   the commands send, regenerate, cancel (uploads: text that came beside the socket)
    following      the commands resume and subscribe
    notices        hints to a user's other connections
    accept         stores what was asked, exactly once
    generate       claims the run and streams the reply:
    context          what it is written from
    prompt           what the model is asked
    reply            what the model fills in, and what its parts mean
    coalescing       how long it waits before it reads on
    outcome          how it ended, in the words of the wire
    usage            what it cost, where the provider has not said
    finish         stores the end in one transaction, then tells it
    seal           ends a run whose generation died, with what its log holds
    recover        takes up runs that nobody generates
"""

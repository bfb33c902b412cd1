"""The local host: one process, one port, no cloud.

::

    server      runs it, from settings to the last socket
    http        uvicorn's HTTP, with bounds for request heads
    upgrades    from an HTTP upgrade to handled frames
    inbox       the frames of one connection, handed out in their order
    sockets     the open WebSockets: the `Transport`
    clocks      ends sockets whose time is over
    background  work beside them, which begins anew when it breaks
    run_tasks   generates replies in tasks: the `RunStarter`
    addresses   where a request comes from, behind proxies too
    limits      how long what may last, and how many there may be
"""

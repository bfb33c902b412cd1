"""The chat gateway: the wire protocol, one turn from command to saved reply, and its hosts.

::

    app                      what a connection's frames do, the same for every host
    wire, identity, tenants  what is said, who says it, what they may do
    turns, runs, frames      one exchange, one reply on its way, what fits a frame
    account                  a person's own data
    routes, jobs             HTTP, and work that no connection waits for
    hosts, bootstrap, cli    where it runs, what it is built of, the command `makoto`
    web                      the browser client and the demo page
    emulator                 API Gateway for anyone's handlers; knows none of the others
    settings, aws_settings   what operators say (settings_table: the table in README.md)
    faults, telemetry        errors as clients are told them, logs
"""

"""The command `makoto`.

``main`` parses and ends it; each subcommand is a module::

    serve            run the gateway
    chat             talk to one: client, reading, transfers, typed_lines, handshake (who one is)
    token            make a token of the server's own issuer
    replay           play a recording to any client (recording: how one is kept)
    page             serve the demo page alone
    emulate          API Gateway for anyone's handlers
    layer            build, publish, roll back and prune the Lambda layer
    failure, ports   how a command fails, and how a port is typed
"""

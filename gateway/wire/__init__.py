"""What is said: the `makoto.v1` protocol as types.

::

    commands               from the client
    answers, events        to the client
    errors                 what can go wrong, error codes and close codes
    limits                 sizes
    json_schema, asyncapi  the same for programs, under `generated/`
    typescript, markdown   for the browser client, and the tables in PROTOCOL.md
    generate               writes all of those
"""

"""The composition root: settings in, a working gateway out.

What both hosts have, and what a host's backend is, is put together here alone. Around it each host puts its
own: the local one its sockets, tasks, limits and routes (`hosts.local.server`), that of AWS its clients of
API Gateway and Lambda (`hosts.aws.invocation`) and the site of its HTTP API (`hosts.aws.http`).

Lifetimes belong to the `AsyncExitStack` that the host hands in: what is opened there is closed with
it, in reverse order. AWS ends a process without a word, so there nothing is closed::

    handlers    the handlers, over a backend that a host has opened
    generation  who answers, and what generates replies with it
    identity    who proves tokens
    local       the local host's backend: SQLite, files, its own issuer
    aws         the AWS host's backend: DynamoDB, S3
    door        the part of that which a connect, a disconnect and a ticket need; starts fast
"""

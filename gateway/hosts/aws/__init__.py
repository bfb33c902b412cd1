"""Lambda behind an API Gateway WebSocket API.

The entry points, then what they stand on::

    connect, disconnect, http  the door: who comes in, who has left, tickets
    message                    carries out one command
    reply                      generates one reply (reply_process: what its process keeps;
                               provider_reply: the same, with a provider's SDK loaded at once)
    seal                       ends a run whose `reply` failed for good

    invocation                 what `message`, `reply` and `seal` are built on, each time anew
    warm                       what a process keeps between invocations
    events                     API Gateway's words in the gateway's
    invoker                    has a reply generated: the `RunStarter`
    transport                  frames out: connections_api (one at a time), post_budget (how many)
    secrets                    the key of the model's provider
"""

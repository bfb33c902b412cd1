"""Models that answer as a stream of parts.

``chat_model`` says what a model is, ``openai`` and ``scripted`` are two. Both read through the same
path, told from the outside in::

    openai                   what one turn asks for (openai_account, openai_head: of whom, and how)
    scripted                 words -> reply -> events (scripted_words, _reply, _stream)
    reply_stream             one turn: open, read, start again if nothing came
    deadline, retry          how long it may take, and when it may start again
    reply_reader             bytes -> parts, and whether the reply is whole
    byte_source              where bytes come from
    http_source              over HTTP/1.1: pool -> exchange, the head made once (http_head)
    errors, upstream_errors  what can go wrong, and how a provider's answer says so

Importing this package, or ``chat_model`` and ``errors``, loads neither a provider SDK nor an HTTP
client.
"""

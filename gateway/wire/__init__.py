"""What is said: the `makoto.v1` protocol as types.

`commands` come from the client, `answers` and `events` go to it, `errors` names what can be wrong.
PROTOCOL.md explains them with dialogues; the schema files under `generated/` are made from here.
"""

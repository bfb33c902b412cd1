"""The composition root: settings in, a working gateway out. Nothing else builds things.

`handlers` makes what every host shares, `model` who answers; each host adds a module that opens its own
backend. Lifetimes belong to the `AsyncExitStack` that the host hands in: what is opened there is closed
with it, in reverse order.
"""

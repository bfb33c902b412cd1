"""The HTTP side.

``http_app`` puts together what a host serves and gives every error one body. ``tickets`` and
``health`` are on both hosts; ``page`` (the demo page and the client), ``payloads`` and
``local_sign_in`` (public keys, demo tokens) on the local one.
"""

"""Who is speaking.

A handshake is read by `handshake`; what it carries is proved by `verifier` (tokens) or redeemed with
`tickets`; the outcome is a `principal.Principal`. Import what you need from the module itself:
`tokens`, `keys` and `local_issuer` bring in the cryptography (about 60 ms), the others do not.
"""

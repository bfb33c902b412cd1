"""Who is speaking.

Import what you need from the module itself: ``tokens``, ``keys`` and ``local_issuer`` bring in the
cryptography (about 60 ms), the others do not::

    handshake                what a handshake says about who is calling; proves nothing
    admission                lets a connection in, and renews who it is
    verifier                 whose token is it, of many issuers (issuers: which are trusted)
    tokens, claims           proving one token, and what it must say
    jwks, jwks_http, keys    an issuer's keys: when to fetch them, how, and how to read them
    tickets                  a single-use stand-in for a token
    principal                who was verified
    local_issuer, local_key  the server as its own issuer (demo_guard: for its own page)
    errors                   why somebody is not let in
"""

"""The Lambda layer that carries the gateway: built, tried, published, rolled back and pruned.

Knows none of what it packs. `makoto layer` is its command line; docs/aws.md is for who uses it::

    samconfig      what infra/samconfig.toml says: stack, runtime, processor, parameters
    contract       what infra/template.yaml expects of the code in the layer
    interpreters   a Python of a given version on this machine
    contents       the files of the layer, in a folder
    archive        that folder as a zip that is the same each time, and its content's hash
    canary         all it has to offer, imported by a Python that sees nothing else
    aws            clients of the SDK; its errors as one line
    versions       what is published: described, found again, deleted
    stack          which version the functions use, and putting another in its place
    publishing     built and published, unless it is published
    rollback       the functions put back on a version that they used before
    errors         why a command cannot be carried out
"""

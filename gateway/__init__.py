"""The chat gateway: the wire protocol, one turn from command to saved reply, and its hosts."""

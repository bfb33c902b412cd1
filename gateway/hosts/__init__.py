"""Where the handlers run: `local` is one process on one port."""

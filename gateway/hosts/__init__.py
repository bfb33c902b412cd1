"""Where the handlers run: ``local``, one process on one port, or ``aws``, Lambda functions."""

"""How a command says that it failed, or was interrupted."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


class CommandFailedError(Exception):
    """The command cannot be carried out. The text is one line for the person who typed it."""


class WrongUsageError(CommandFailedError):
    """What was typed can never be carried out: the exit code is that of a wrong option, 2."""

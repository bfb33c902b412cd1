"""How a command says that it failed."""


class CommandFailedError(Exception):
    """The command cannot be carried out. The text is one line for the person who typed it."""

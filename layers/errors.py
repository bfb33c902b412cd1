"""Why a layer cannot be built, published or put back."""


class LayerError(Exception):
    """It cannot be done. The text is one line for the person who asked."""

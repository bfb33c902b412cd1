"""What can go wrong in storage.

::

    StorageError
    ├── StorageUnavailableError   the backend refuses, is locked, full or unreachable; worth a retry
    ├── LogSlotTakenError         another writer continued the run: stop, post nothing more
    ├── NotRunOwnerError          the run is not ours (any more), or has ended
    ├── InvalidCursorError        a page cursor that this backend did not make (the caller's fault)
    ├── BlobMissingError          no blob under that key, or not yet uploaded
    ├── UploadRejectedError       an uploaded body is not what its URL was signed for (the caller's fault)
    ├── UnstorableTextError       a lone surrogate or an integer beyond 64 bits (our own fault: see there)
    └── UnusableDataError         start-up: the data folder cannot be used; its text is one clear line

A backend turns every error of its SDK or engine into one of these; none carries SQL, keys or paths,
but for `UnusableDataError`, which is read by the operator alone.
"""

from typing import ClassVar


class StorageError(Exception):
    """Root of the tree.

    Attributes:
        retryable: whether the same call may succeed later.
    """

    retryable: ClassVar[bool] = False


class StorageUnavailableError(StorageError):
    """The backend refuses, is locked, full or unreachable."""

    retryable = True


class LogSlotTakenError(StorageError):
    """The next slot of a run's log was created by another writer."""


class NotRunOwnerError(StorageError):
    """A claim, append or finish by someone who does not own the running run."""


class InvalidCursorError(StorageError):
    """A page cursor that cannot be read."""


class BlobMissingError(StorageError):
    """No blob is stored under that key, or another one than was."""


class UploadRejectedError(StorageError):
    """An uploaded body has another size or hash than its URL was signed for. Nothing was kept."""


class UnstorableTextError(StorageError):
    """A value that no backend can hold, such as text with a lone surrogate.

    Whoever calls storage replaces those by U+FFFD first; this error only keeps a slip from doing harm.
    """


class UnusableDataError(StorageError):
    """The data folder cannot be used. The text is one line for the operator and ends the start-up."""

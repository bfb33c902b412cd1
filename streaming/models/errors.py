"""What can go wrong between asking a model and the end of its reply.

::

    ModelError
    ├── ModelAuthError           our credential was refused
    ├── ModelQuotaError          our account has no credit left
    ├── ModelNotFoundError       the provider has no such model or deployment for us
    ├── ModelRateLimitedError    too many requests for now; retry_after may say how long
    ├── ModelBadRequestError     the provider cannot make sense of what we asked
    ├── ModelRefusedError        the provider's policy declines to answer this prompt
    ├── ModelFilteredError       a content filter stopped the prompt or the reply
    ├── ModelUnavailableError    the provider is down, overloaded, or the connection broke
    ├── ModelTimeoutError        a deadline passed; phase says which
    └── ModelProtocolError       the provider's answer breaks the protocol

An error never carries a word the provider wrote: such text has been seen to contain keys and
prompts, and whatever an exception carries ends in a log. ``detail`` is a phrase of this package or a
well-known machine code, ``status`` a number, and neither ``__cause__`` nor ``__context__`` leads to
the exception of a client library.
"""

from typing import ClassVar, Literal

__all__ = [
    "ModelAuthError",
    "ModelBadRequestError",
    "ModelError",
    "ModelFilteredError",
    "ModelNotFoundError",
    "ModelProtocolError",
    "ModelQuotaError",
    "ModelRateLimitedError",
    "ModelRefusedError",
    "ModelTimeoutError",
    "ModelUnavailableError",
    "TimeoutPhase",
]

TimeoutPhase = Literal["first_token", "between_chunks", "total"]
"""Which deadline passed; see `streaming.models.chat_model.Deadlines`."""


class ModelError(Exception):
    """The model gave no reply, or not a whole one. Raise a subclass.

    Attributes:
        code: Stable, for programs and logs: ``auth``, ``quota``, ``not_found``, ``rate_limited``,
            ``bad_request``, ``refused``, ``filtered``, ``unavailable``, ``timeout`` or ``protocol``.
        retryable: Whether the same request may succeed later, unchanged.
        retry_after: Seconds the provider asks to wait first, 0 or more; None if it did not say.
        status: The HTTP status that said so; None if none did.
        detail: What happened, in words of ours or as a well-known code such as
            ``context_length_exceeded``; may be empty.
    """

    code: ClassVar[str]
    retryable: bool = False

    def __init__(
        self,
        detail: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable
        super().__init__(self._summary())

    def _summary(self) -> str:
        facts = [self.detail] if self.detail else []
        if self.status is not None:
            facts.append(f"HTTP {self.status}")
        if self.retry_after is not None:
            facts.append(f"retry after {self.retry_after:g} s")
        return f"{self.code} ({', '.join(facts)})" if facts else self.code


class ModelAuthError(ModelError):
    """The provider refused our credential, or what it may do. The operator's to mend."""

    code = "auth"


class ModelQuotaError(ModelError):
    """The operator's account with the provider has run out of credit."""

    code = "quota"


class ModelNotFoundError(ModelError):
    """The provider has no model, deployment or path of this name. The operator's to mend."""

    code = "not_found"


class ModelRateLimitedError(ModelError):
    """The provider takes no more requests from us for now."""

    code = "rate_limited"
    retryable = True


class ModelBadRequestError(ModelError):
    """The provider rejected the request itself: a prompt that is too long, an unknown field, ...

    The fault is on our side: more text than the model takes, or a setting.
    """

    code = "bad_request"


class ModelRefusedError(ModelError):
    """The provider's usage policy declines to answer this prompt.

    A model that says no in its own words is not this error: those words are its reply.
    """

    code = "refused"


class ModelFilteredError(ModelError):
    """A content filter stopped the prompt before any reply.

    A reply cut by a filter after it began ends in ``Finished("content_filter")`` instead: what was
    said before the cut stays said.
    """

    code = "filtered"


class ModelUnavailableError(ModelError):
    """The provider is unreachable, down or overloaded, or the connection to it broke."""

    code = "unavailable"
    retryable = True


class ModelTimeoutError(ModelError):
    """A deadline passed; the upstream request is closed.

    Attributes:
        phase: Which of the run's deadlines it was.
    """

    code = "timeout"
    retryable = True

    def __init__(self, phase: TimeoutPhase) -> None:
        self.phase = phase
        super().__init__(phase)


class ModelProtocolError(ModelError):
    """The provider's answer is not a stream of chat completion chunks, or ends without an end."""

    code = "protocol"

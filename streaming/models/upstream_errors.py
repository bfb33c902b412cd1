"""A provider's error answer -> the error it stands for.

Decided by status, by the machine-readable ``code`` and ``type`` beside the message, and by the
headers; the message is never read. The classes are those of the OpenAI SDK's exceptions
(401 AuthenticationError, 404 NotFoundError, 429 RateLimitError, ...) and so is what may be
tried again (408, 409, 429, 5xx, and what ``x-should-retry`` says).
See https://platform.openai.com/docs/guides/error-codes and
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from streaming.chunks import http_status
from streaming.models.errors import (
    ModelAuthError,
    ModelBadRequestError,
    ModelError,
    ModelFilteredError,
    ModelNotFoundError,
    ModelProtocolError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelRefusedError,
    ModelUnavailableError,
)

__all__ = ["error_of_body", "error_of_event", "error_of_response", "retry_after_seconds"]

_CLASS_OF_CODE: dict[str, type[ModelError]] = {
    code: error
    for error, codes in {
        ModelAuthError: (
            "account_deactivated authentication_error invalid_api_key invalid_authentication "
            "ip_not_authorized mismatched_organization permission_denied permission_error "
            "permissiondenied unauthorized unsupported_country_region_territory"
        ),
        ModelQuotaError: (
            "billing_error billing_hard_limit_reached billing_not_active insufficient_credits "
            "insufficient_quota"
        ),
        ModelNotFoundError: "deploymentnotfound model_not_found not_found_error",
        ModelRateLimitedError: (
            "rate_limit_error rate_limit_exceeded requests tokens too_many_requests toomanyrequests"
        ),
        ModelRefusedError: "content_policy_violation invalid_prompt moderation_blocked",
        ModelFilteredError: "content_filter responsibleaipolicyviolation",
        ModelUnavailableError: (
            "engine_overloaded engine_overloaded_error internal_error internal_server_error "
            "internalservererror model_overloaded overloaded overloaded_error server_error "
            "server_overloaded service_unavailable service_unavailable_error slow_down timeout"
        ),
        ModelBadRequestError: (
            "badrequesterror context_length_exceeded invalid_request_error invalid_type "
            "invalid_value missing_required_parameter string_above_max_length "
            "unsupported_parameter unsupported_value"
        ),
    }.items()
    for code in codes.split()
}
"""What a ``code`` or ``type`` stands for, in lower case. Also the only upstream words an error keeps."""

_SHARPER_THAN_A_STATUS = (
    ModelQuotaError,
    ModelNotFoundError,
    ModelRefusedError,
    ModelFilteredError,
)
"""Classes that no HTTP status expresses by itself: here the code decides, whatever the status."""

_LONGEST_WAIT: Final = 86_400.0
"""Seconds; who asks for more is not waited for any better."""

_TRANSIENT_STATUSES = frozenset({408, 409, 425})


def error_of_response(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float
) -> ModelError:
    """Return the error a response other than 200 stands for.

    Args:
        status: The HTTP status.
        headers: The response's header fields; looked up in lower case, so the mapping should not
            care about case.
        body: The body or its beginning; need not be JSON.
        now: Unix time in seconds, to read a ``Retry-After`` that is a date.
    """
    code = _known_code(_error_object(body))
    named = _CLASS_OF_CODE.get(code)
    by_status = _class_of_status(status)
    error = named if named in _SHARPER_THAN_A_STATUS else by_status
    return error(
        code,
        status=status,
        retry_after=retry_after_seconds(headers, now=now) if error.retryable else None,
        retryable=_asked_to_retry(headers) if error.retryable else None,
    )


def error_of_body(body: bytes) -> ModelError | None:
    """Return the error that the JSON body of a response with status 200 reports; None if none."""
    error = _error_object(body)
    if error is None:
        return None
    return error_of_event(_known_code(error), _embedded_status(error))


def error_of_event(kind: str, status: int) -> ModelError:
    """Return the error that an ``{"error": ...}`` event inside a stream stands for.

    Args:
        kind: Its ``code`` or ``type``; dropped unless it is a well-known one. May be empty.
        status: The HTTP status some providers put there instead; 0 if there is none.
    """
    code = kind.lower()
    if code in _CLASS_OF_CODE:
        return _CLASS_OF_CODE[code](code)
    if status:
        return _class_of_status(status)(status=status)
    return ModelUnavailableError("error inside the stream")


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return how long the provider asks to wait, in seconds from now, up to a day; None if unsaid.

    ``Retry-After`` is RFC 9110 section 10.2.3: seconds or a date. ``retry-after-ms`` is what OpenAI
    and Azure send for less than a second.
    """
    for field, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(field, ""))
        if seconds is not None:
            return _bounded(seconds * unit)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return _bounded(date.timestamp() - now)
    except (ValueError, OverflowError):  # no date, or one of no calendar
        return None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _asked_to_retry(headers: Mapping[str, str]) -> bool | None:
    return {"true": True, "false": False}.get(headers.get("x-should-retry", ""))


def _class_of_status(status: int) -> type[ModelError]:
    if status in (401, 403):
        return ModelAuthError
    if status == 402:
        return ModelQuotaError
    if status in (404, 410):
        return ModelNotFoundError
    if status == 429:
        return ModelRateLimitedError
    if status in _TRANSIENT_STATUSES or status >= 500:
        return ModelUnavailableError
    if status >= 400:
        return ModelBadRequestError
    return ModelProtocolError


def _error_object(body: bytes) -> object:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer.get("error") if isinstance(answer, dict) else None


def _known_code(error: object) -> str:
    """Return the sharpest well-known code of an error object, "" if it has none."""
    if not isinstance(error, dict):
        return ""
    inner = error.get("innererror")
    candidates = [inner.get("code")] if isinstance(inner, dict) else []
    candidates += [error.get("code"), error.get("type")]
    known = [c.lower() for c in candidates if isinstance(c, str) and c.lower() in _CLASS_OF_CODE]
    return known[0] if known else ""


def _embedded_status(error: object) -> int:
    if not isinstance(error, dict):
        return 0
    statuses = (http_status(error.get(name)) for name in ("code", "status", "type"))
    return next(filter(None, statuses), 0)

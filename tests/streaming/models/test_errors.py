import inspect

from streaming.models import errors
from streaming.models.errors import ModelError, ModelTimeoutError, ModelUnavailableError

CLASSES = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, ModelError) and error is not ModelError
]


def test_every_class_has_a_code_of_its_own() -> None:
    codes = {error.code for error in CLASSES}

    assert codes == {
        "auth",
        "bad_request",
        "filtered",
        "not_found",
        "protocol",
        "quota",
        "rate_limited",
        "refused",
        "timeout",
        "unavailable",
    }
    assert len(codes) == len(CLASSES)


def test_the_text_names_what_is_known() -> None:
    error = ModelUnavailableError("server_error", status=503, retry_after=1.5)

    assert str(error) == "unavailable (server_error, HTTP 503, retry after 1.5 s)"


def test_the_text_of_an_error_without_facts_is_its_code() -> None:
    assert str(ModelUnavailableError()) == "unavailable"


def test_a_timeout_names_its_phase() -> None:
    error = ModelTimeoutError("between_chunks")

    assert (error.phase, str(error)) == ("between_chunks", "timeout (between_chunks)")


def test_one_instance_may_be_marked_as_final() -> None:
    assert not ModelUnavailableError(retryable=False).retryable
    assert ModelUnavailableError().retryable

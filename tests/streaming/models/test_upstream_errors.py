import traceback

import orjson
import pytest

from streaming.models.errors import ModelError
from streaming.models.upstream_errors import (
    error_of_body,
    error_of_event,
    error_of_response,
    retry_after_seconds,
)

NOW = 1_700_000_000.0
SECRET = "sk-live-SECRET and a prompt"


def body(code: object = None, type_: object = None, **more: object) -> bytes:
    return orjson.dumps({"error": {"message": SECRET, "code": code, "type": type_, **more}})


def respond(status: int, content: bytes = b"", **headers: str) -> ModelError:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_of_response(status, fields, content, now=NOW)


@pytest.mark.parametrize(
    ("status", "content", "code", "retryable"),
    [
        pytest.param(400, body("context_length_exceeded"), "bad_request", False, id="400"),
        pytest.param(400, body("content_filter"), "filtered", False, id="400-azure-filter"),
        pytest.param(
            400,
            body("BadRequest", innererror={"code": "ResponsibleAIPolicyViolation"}),
            "filtered",
            False,
            id="400-azure-inner-error",
        ),
        pytest.param(400, body("content_policy_violation"), "refused", False, id="400-policy"),
        pytest.param(
            400, body("invalid_prompt", "invalid_request_error"), "refused", False, id="400-prompt"
        ),
        pytest.param(401, body("invalid_api_key"), "auth", False, id="401"),
        pytest.param(402, b"", "quota", False, id="402"),
        pytest.param(403, b"<html>", "auth", False, id="403"),
        pytest.param(403, body("model_not_found"), "not_found", False, id="403-model"),
        pytest.param(404, body("model_not_found"), "not_found", False, id="404"),
        pytest.param(404, body("DeploymentNotFound"), "not_found", False, id="404-azure"),
        pytest.param(404, b"<html>Not Found</html>", "not_found", False, id="404-html"),
        pytest.param(400, body("model_not_found"), "not_found", False, id="400-model"),
        pytest.param(410, b"", "not_found", False, id="410"),
        pytest.param(408, b"", "unavailable", True, id="408"),
        pytest.param(409, b"", "unavailable", True, id="409"),
        pytest.param(413, b"", "bad_request", False, id="413"),
        pytest.param(422, b"", "bad_request", False, id="422"),
        pytest.param(429, body("insufficient_quota"), "quota", False, id="429-quota"),
        pytest.param(429, body(None, "insufficient_quota"), "quota", False, id="429-quota-type"),
        pytest.param(429, body("rate_limit_exceeded", "tokens"), "rate_limited", True, id="429"),
        pytest.param(429, b"", "rate_limited", True, id="429-empty"),
        pytest.param(429, body("429"), "rate_limited", True, id="429-azure"),
        pytest.param(500, body(None, "server_error"), "unavailable", True, id="500"),
        pytest.param(502, b"<html>Bad Gateway</html>", "unavailable", True, id="502-html"),
        pytest.param(503, b"{", "unavailable", True, id="503-broken-json"),
        pytest.param(529, b"", "unavailable", True, id="529"),
        pytest.param(302, b"", "protocol", False, id="302"),
        pytest.param(204, b"", "protocol", False, id="204"),
    ],
)
def test_a_status_and_code_name_the_error(
    status: int, content: bytes, code: str, retryable: bool
) -> None:
    error = respond(status, content)

    assert (error.code, error.retryable, error.status) == (code, retryable, status)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        pytest.param("rate_limit_exceeded", 0, "rate_limited", id="rate"),
        pytest.param("insufficient_quota", 0, "quota", id="quota"),
        pytest.param("content_filter", 400, "filtered", id="filter"),
        pytest.param("Overloaded_Error", 0, "unavailable", id="any-case"),
        pytest.param("model_not_found", 0, "not_found", id="model"),
        pytest.param("", 401, "auth", id="status"),
        pytest.param("", 404, "not_found", id="status-404"),
        pytest.param("", 502, "unavailable", id="bad-gateway"),
        pytest.param("whatever", 429, "rate_limited", id="unknown-word-with-status"),
        pytest.param("whatever", 0, "unavailable", id="unknown-word"),
        pytest.param("", 0, "unavailable", id="nothing"),
    ],
)
def test_an_error_event_names_the_error(kind: str, status: int, code: str) -> None:
    error = error_of_event(kind, status)

    assert error.code == code
    assert "whatever" not in str(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param({"type": "insufficient_quota", "code": None}, "quota", id="type"),
        pytest.param({"code": 502, "message": SECRET}, "unavailable", id="number"),
        pytest.param({"code": "401"}, "auth", id="number-as-text"),
        pytest.param({"code": 7, "type": []}, "unavailable", id="nonsense"),
        pytest.param({"code": True}, "unavailable", id="bool"),
        pytest.param({"code": "²²²"}, "unavailable", id="odd-digits"),
        pytest.param({"code": "4" * 5_000}, "unavailable", id="too-many-digits"),
        pytest.param(SECRET, "unavailable", id="text"),
    ],
)
def test_a_body_names_the_error(error: object, code: str) -> None:
    found = error_of_body(orjson.dumps({"error": error}))

    assert found is not None
    assert found.code == code
    assert "SECRET" not in str(found)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"choices": []}', b"<html>", b"\xff"])
def test_a_body_without_an_error_reports_none(content: bytes) -> None:
    assert error_of_body(content) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="absent"),
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": "0.5"}, 0.5, id="fraction"),
        pytest.param({"retry-after-ms": "250", "retry-after": "1"}, 0.25, id="milliseconds-first"),
        pytest.param({"retry-after-ms": "soon", "retry-after": "1"}, 1.0, id="ms-broken"),
        pytest.param({"retry-after": "-3"}, 0.0, id="past"),
        pytest.param({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0, id="date"),
        pytest.param({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0, id="past-date"),
        pytest.param({"retry-after": "1e300"}, 86_400.0, id="ages"),
        pytest.param({"retry-after": "Fri, 31 Dec 9999 22:13:30 GMT"}, 86_400.0, id="date-of-ages"),
        pytest.param({"retry-after": "inf"}, None, id="infinite"),
        pytest.param({"retry-after": "nan"}, None, id="nan"),
        pytest.param({"retry-after": "later"}, None, id="nonsense"),
        pytest.param({"retry-after": "Tue, 99 Nov 2023 22:13:30 GMT"}, None, id="broken-date"),
        pytest.param(
            {"retry-after": f"Tue, 14 Nov 2023 22:13:30 +{'9' * 14}"}, None, id="broken-zone"
        ),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers, now=NOW) == seconds


def test_only_an_error_that_may_pass_carries_the_wait() -> None:
    assert respond(429, retry_after="2").retry_after == 2.0
    assert respond(429, body("insufficient_quota"), retry_after="2").retry_after is None


def test_the_provider_may_forbid_a_retry() -> None:
    assert not respond(503, x_should_retry="false").retryable


def test_the_provider_cannot_make_a_wrong_key_worth_a_retry() -> None:
    assert not respond(401, x_should_retry="true").retryable


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 302])
def test_nothing_the_provider_wrote_is_in_the_error(status: int) -> None:
    error = respond(status, body(SECRET, SECRET), retry_after=SECRET, x_should_retry=SECRET)

    text = "".join([error.detail, repr(error), str(error), *traceback.format_exception(error)])
    assert "SECRET" not in text
    assert "prompt" not in text


def test_a_well_known_code_is_kept_for_the_operator() -> None:
    assert str(respond(404, body("model_not_found"))) == "not_found (model_not_found, HTTP 404)"

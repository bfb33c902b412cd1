import subprocess
import sys

import orjson
import pytest

from gateway.aws_settings import AwsSettings, read_aws_settings
from gateway.settings import read_settings
from storage.sigv4 import Credentials

POOL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE"
ISSUERS = orjson.dumps(
    [{"issuer": POOL, "audience": ["1example"], "token_use": "access", "tenant": "acme"}]
).decode()


def test_an_empty_environment_tells_nothing() -> None:
    assert read_aws_settings({}) == AwsSettings()


def test_each_variable_is_read() -> None:
    settings = read_aws_settings(
        {
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIA",
            "AWS_SECRET_ACCESS_KEY": "hidden",
            "AWS_SESSION_TOKEN": "token",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
            "MAKOTO_DATA_TABLE": "data",
            "MAKOTO_DOOR_TABLE": "door",
            "MAKOTO_BUCKET": "payloads",
            "MAKOTO_REPLY_FUNCTION": "reply",
            "MAKOTO_CONNECTIONS_URL": "https://abc.execute-api.eu-west-1.amazonaws.com/dev/",
            "MAKOTO_ISSUERS": ISSUERS,
            "MAKOTO_ALLOWED_ORIGINS": "https://a.example, https://b.example",
            "MAKOTO_MODEL_SECRET": "ssm:/makoto/key",
            "MAKOTO_POSTS_PER_SECOND": "50",
            "OPENAI_MODEL": "gpt-4o",
        }
    )
    assert settings.region == "eu-west-1"
    assert settings.credentials == Credentials(
        access_key_id="AKIA", secret_access_key="hidden", session_token="token"
    )
    assert settings.dynamodb_url == "http://127.0.0.1:4566"
    assert (settings.data_table, settings.door_table) == ("data", "door")
    assert (settings.bucket, settings.reply_function) == ("payloads", "reply")
    assert settings.connections_url == "https://abc.execute-api.eu-west-1.amazonaws.com/dev"
    assert [issuer.rules.issuer for issuer in settings.issuers] == [POOL]
    assert settings.allowed_origins == {"https://a.example", "https://b.example"}
    assert settings.model_secret == "ssm:/makoto/key"
    assert settings.posts_per_second == 50.0
    assert "hidden" not in repr(settings)


def test_the_rest_is_what_the_ordinary_settings_take() -> None:
    aws = read_aws_settings(
        {"MAKOTO_DATA_TABLE": "data", "MAKOTO_LIVE_RUNS": "3", "MAKOTO_ISSUERS": ISSUERS}
    )
    assert read_settings(environ=aws.rest).live_runs == 3


def test_a_service_of_its_own_endpoint_wins_over_the_common_one() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "http://b"}
    assert read_aws_settings(environ).dynamodb_url == "http://b"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAKOTO_ISSUERS", "nothing"),
        ("MAKOTO_POSTS_PER_SECOND", "many"),
        ("MAKOTO_POSTS_PER_SECOND", "-1"),
        ("MAKOTO_POSTS_PER_SECOND", "inf"),
        ("MAKOTO_CONNECTIONS_URL", "abc.execute-api.eu-west-1.amazonaws.com"),
    ],
)
def test_a_value_that_is_not_valid_is_named(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=variable):
        read_aws_settings({variable: value})


def test_what_a_function_needs_and_misses_is_named_by_its_variable() -> None:
    settings = read_aws_settings({"MAKOTO_DOOR_TABLE": "door"})
    settings.require("door_table")
    with pytest.raises(ValueError, match="MAKOTO_ISSUERS is not set"):
        settings.require("door_table", "issuers")


@pytest.mark.parametrize("missing", ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_what_is_needed_to_sign_is_named_too(missing: str) -> None:
    environ = {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "hidden",
    }
    keys = Credentials(access_key_id="AKIA", secret_access_key="hidden")
    assert read_aws_settings(environ).signing() == ("eu-west-1", keys)
    with pytest.raises(ValueError, match=missing):
        read_aws_settings({**environ, missing: ""}).signing()


def test_no_issuer_is_a_list_of_none() -> None:
    settings = read_aws_settings({"MAKOTO_ISSUERS": "[]"})
    assert settings.issuers == ()
    assert read_settings(environ=settings.rest).issuers == ()


def test_reading_them_takes_neither_pydantic_nor_the_sdk() -> None:
    script = (
        "import sys; from gateway.aws_settings import read_aws_settings; read_aws_settings({});"
        "print([m for m in ('pydantic', 'botocore', 'jose', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.strip() == b"[]"

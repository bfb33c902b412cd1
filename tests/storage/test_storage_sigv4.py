"""The signer beside what AWS has published, and beside the SDK's.

The vectors are those of the Signature Version 4 test suite, whose requests are all signed at one moment
with one key; see https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html (archived).
"""

import re
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SdkCredentials
from hypothesis import given
from hypothesis import strategies as st

from storage.sigv4 import Credentials, Scope, signed

KEY = Credentials(
    access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HOST = {"Host": "example.amazonaws.com"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def signature(
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    path: str = "/",
    query: str = "",
    body: bytes = b"",
    scope: Scope | None = None,
    credentials: Credentials = KEY,
) -> str:
    sent = signed(
        {**HOST, **(headers or {})},
        method=method,
        path=path,
        query=query,
        body=body,
        scope=scope or Scope(region="us-east-1", service="service"),
        credentials=credentials,
        now=NOW.timestamp(),
    )
    return sent["Authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize(
    ("made", "published"),
    [
        pytest.param(
            signature(),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            id="get-vanilla",
        ),
        pytest.param(
            signature(query="Param2=value2&Param1=value1"),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            id="get-vanilla-query-order-key-case",
        ),
        pytest.param(
            signature({"My-Header1": "  value1 ", "My-Header2": '"a   b   c"'}),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            id="get-header-value-trim",
        ),
        pytest.param(
            signature(path=f"/{UNRESERVED}"),
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            id="get-unreserved",
        ),
        pytest.param(
            signature(path="/\u1234"),
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            id="get-utf8",
        ),
        pytest.param(
            signature(method="POST"),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            id="post-vanilla",
        ),
        pytest.param(
            signature({"My-Header1": "value1"}, method="POST"),
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            id="post-header-key-sort",
        ),
        pytest.param(
            signature(FORM, method="POST", body=b"Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            id="post-x-www-form-urlencoded",
        ),
        pytest.param(
            signature(
                {
                    "Host": "iam.amazonaws.com",
                    "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                },
                query="Action=ListUsers&Version=2010-05-08",
                scope=Scope(region="us-east-1", service="iam"),
            ),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            id="the user guide's ListUsers",
        ),
    ],
)
def test_a_signature_is_the_published_one(made: str, published: str) -> None:
    assert made == published


def sdk_signature(
    headers: dict[str, str], method: str, path: str, query: str, body: bytes, key: Credentials
) -> str:
    url = f"https://example.amazonaws.com{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers={**HOST, **headers}, data=body)
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        SigV4Auth(
            SdkCredentials(key.access_key_id, key.secret_access_key, key.session_token),
            "service",
            "us-east-1",
        ).add_auth(request)
    return re.sub(r".*Signature=", "", request.headers["Authorization"])


words = st.text(alphabet=st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)


@given(
    values=st.dictionaries(
        st.from_regex(r"x-[a-z]{1,8}", fullmatch=True),
        st.text(alphabet='ab =,;"é', max_size=12).map(str.strip),
        max_size=4,
    ),
    segments=st.lists(words.filter(lambda word: word not in {".", ".."}), max_size=3),
    pairs=st.lists(st.tuples(words, words), max_size=4),
    body=st.binary(max_size=40),
    token=st.none() | st.just("a/token+of=some=length"),
)
def test_a_signature_is_the_one_of_the_sdk(
    values: dict[str, str],
    segments: list[str],
    pairs: list[tuple[str, str]],
    body: bytes,
    token: str | None,
) -> None:
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    key = Credentials(
        access_key_id=KEY.access_key_id,
        secret_access_key=KEY.secret_access_key,
        session_token=token,
    )

    ours = signature(values, method="PUT", path=path, query=query, body=body, credentials=key)
    assert ours == sdk_signature(values, "PUT", path, query, body, key)


def test_the_secret_is_not_shown() -> None:
    key = Credentials(access_key_id="AKID", secret_access_key="hidden", session_token="hidden")

    assert "hidden" not in repr(key)
    sent = signed(
        HOST,
        method="GET",
        path="/",
        body=b"",
        scope=Scope(region="r", service="s"),
        credentials=key,
        now=0,
    )
    assert sent.pop("X-Amz-Security-Token") == "hidden"
    assert "hidden" not in str(sent)

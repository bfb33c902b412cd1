"""The operator's list of issuers."""

import json
import subprocess
import sys
from typing import Any

import pytest

from gateway.identity.issuers import Issuer, is_user_pool, make_issuer, read_issuers

POOL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE"
COGNITO: dict[str, Any] = {
    "issuer": POOL,
    "audience": ["1example23456789", "web"],
    "token_use": "access",
    "tenant": "acme",
}
OTHER: dict[str, Any] = {
    "issuer": "https://id.example/",
    "jwks_url": "https://keys.example/set?v=1",
    "audience": ["makoto"],
    "tenant": "beta",
}
LONG = "https://id.example/" + "x" * 1024


def read(*entries: object) -> tuple[Issuer, ...]:
    return read_issuers(json.dumps(entries))


def test_each_entry_is_an_issuer_with_its_rules() -> None:
    cognito, other = read(COGNITO, OTHER)
    assert cognito.jwks_url == f"{POOL}/.well-known/jwks.json"
    assert cognito.rules.issuer == POOL
    assert cognito.rules.audience == {"1example23456789", "web"}
    assert (cognito.rules.token_use, cognito.rules.tenant_id) == ("access", "acme")
    assert other.jwks_url == "https://keys.example/set?v=1"
    assert (other.rules.token_use, other.rules.tenant_id) == (None, "beta")


def test_a_named_place_of_keys_wins_over_that_of_the_pool() -> None:
    (pool,) = read({**COGNITO, "jwks_url": "http://127.0.0.1:9/keys"})
    assert pool.jwks_url == "http://127.0.0.1:9/keys"


def test_two_issuers_may_speak_for_one_tenant() -> None:
    assert len(read(COGNITO, {**OTHER, "tenant": "acme"})) == 2


@pytest.mark.parametrize(
    ("issuer", "is_one"),
    [
        (POOL, True),
        ("https://cognito-idp.us-gov-west-1.amazonaws.com/us-gov-west-1_a1B2", True),
        ("https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_a1B2", True),
        (POOL + "/", False),
        (POOL.replace("https", "http"), False),
        ("https://cognito-idp.eu-west-1.amazonaws.com.evil.example/eu-west-1_A", False),
        ("https://cognito-idp.evil.example/.amazonaws.com/eu-west-1_A", False),
        ("https://cognito-identity.amazonaws.com", False),
    ],
)
def test_a_user_pool_is_known_by_its_issuer(issuer: str, is_one: bool) -> None:
    assert is_user_pool(issuer) is is_one


MISTAKES: dict[str, tuple[str, str]] = {
    "nothing": ("", "not JSON"),
    "no JSON": ("issuer=x", "not JSON"),
    "cut off": ("[", "not JSON"),
    "deep": ("[" * 100_000, "not a list"),
    "a long number": (f"[{'1' * 10_000}]", "digits"),
    "an object": (json.dumps(COGNITO), "a JSON list"),
    "no entries": ("[]", "a JSON list"),
    "a text as entry": ('["x"]', "entry 1: an object is wanted"),
    "null as entry": ("[null]", "entry 1: an object is wanted"),
    "a member twice": ('[{"issuer": "a", "issuer": "b"}]', "twice"),
    "an issuer twice": (json.dumps([COGNITO, OTHER, COGNITO]), f"entry 3: issuer {POOL} is listed"),
}


@pytest.mark.parametrize(("text", "says"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_no_list_of_issuers_is_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read_issuers(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown member": ({"jwks": "https://x.example"}, "'jwks' is none of issuer, jwks_url"),
    "unknown member in capitals": ({"Tenant": "x"}, "'Tenant' is none of"),
    "hostile member": ({"\n\x1b[2J誠" * 30: 1}, "is none of"),
    "issuer null": ({"issuer": None}, "issuer must be a text"),
    "issuer empty": ({"issuer": ""}, "issuer must be a text"),
    "issuer with a space": ({"issuer": "https://id.example /"}, "visible"),
    "issuer with a line break": ({"issuer": "https://id.example\n"}, "visible"),
    "issuer too long": ({"issuer": LONG}, "1,024"),
    "no jwks_url": ({"issuer": "https://id.example"}, "jwks_url is missing"),
    "jwks_url empty": ({"jwks_url": ""}, "jwks_url must be a text"),
    "jwks_url null": ({"jwks_url": None}, "jwks_url must be a text"),
    "jwks_url over plain HTTP": ({"jwks_url": "http://id.example/keys"}, "https"),
    "jwks_url with a user": ({"jwks_url": "https://u:p@id.example/keys"}, "https"),
    "jwks_url with a line break": ({"jwks_url": "https://id.example/a\r\nX: y"}, "https"),
    "jwks_url with an odd port": ({"jwks_url": "https://id.example:x/"}, "[Pp]ort"),
    "jwks_url too long": ({"jwks_url": LONG}, "https"),
    "audience a text": ({"audience": "web"}, "audience must be a list"),
    "audience of numbers": ({"audience": [1]}, "audience must be a list"),
    "audience empty": ({"audience": []}, "at least one audience"),
    "audience of nothing": ({"audience": [""]}, "at least one audience"),
    "token_use missing": ({"token_use": None}, "token_use must be"),
    "token_use refresh": ({"token_use": "refresh"}, "token_use must be"),
    "token_use a list": ({"token_use": ["id"]}, "token_use must be"),
    "tenant null": ({"tenant": None}, "tenant must be a text"),
    "tenant empty": ({"tenant": ""}, "tenant must be a text"),
    "tenant with a separator": ({"tenant": "a#b"}, "tenant id"),
}


@pytest.mark.parametrize(("change", "says"), ENTRIES.values(), ids=ENTRIES)
def test_a_mistake_in_an_entry_is_one_line_that_names_it(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^entry 2: .*{says}") as caught:
        read(OTHER, {**COGNITO, **change})
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["issuer", "audience", "tenant"])
def test_a_missing_member_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^entry 1: {name} must"):
        read({key: value for key, value in COGNITO.items() if key != name})


def test_a_user_pool_must_say_which_of_its_tokens_count() -> None:
    with pytest.raises(ValueError, match="token_use, access or id"):
        make_issuer(POOL, audience=["web"], tenant="acme")


def test_reading_the_list_imports_no_pydantic_and_no_cryptography() -> None:
    code = (
        "import sys, gateway.identity.issuers; "
        "print(*{'pydantic', 'cryptography', 'jose', 'aiohttp'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""

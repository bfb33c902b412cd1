"""One key document: what is taken from it, and that nothing odd in it breaks the rest."""

import base64
import json

import pytest

from gateway.identity.errors import JwksDocumentError
from gateway.identity.keys import MAX_DOCUMENT_BYTES, FixedKeys, read_jwks
from tests.gateway.identity.forge import (
    DROP,
    NOW,
    RULES,
    b64,
    document,
    jwk,
    number,
    private_key,
    token,
    verify,
)

ODD_ENTRIES: dict[str, object] = {
    "null": None,
    "a string": "key",
    "a number": 1,
    "a list": [],
    "an empty object": {},
    "kty missing": jwk("odd", kty=DROP),
    "kty EC": {"kty": "EC", "crv": "P-256", "kid": "odd", "x": "AA", "y": "AA", "use": "sig"},
    "kty oct": {"kty": "oct", "k": "c2VjcmV0", "kid": "odd", "alg": "HS256", "use": "sig"},
    "kty rsa in lower case": jwk("odd", kty="rsa"),
    "use enc": jwk("odd", use="enc"),
    "use null": jwk("odd", use=None),
    "alg RS512": jwk("odd", alg="RS512"),
    "alg HS256": jwk("odd", alg="HS256"),
    "alg none": jwk("odd", alg="none"),
    "alg RSA-OAEP": jwk("odd", alg="RSA-OAEP"),
    "key_ops without verify": jwk("odd", key_ops=["encrypt"]),
    "key_ops not a list": jwk("odd", key_ops="verify"),
    "kid missing": jwk(DROP),
    "kid null": jwk(None),
    "kid a number": jwk(1),
    "kid a list": jwk(["odd"]),
    "kid empty": jwk(""),
    "kid of 257 characters": jwk("k" * 257),
    "n missing": jwk("odd", n=DROP),
    "n a number": jwk("odd", n=12345),
    "n empty": jwk("odd", n=""),
    "n not base64": jwk("odd", n="!!!"),
    "n of an impossible length": jwk("odd", n="A" * 345),
    "n with newlines": jwk("odd", n=str(jwk()["n"]) + "\n" * 4),
    "n zero": jwk("odd", n="AA"),
    "n even": jwk("odd", n=b64(b"\xff" * 255 + b"\xfe")),
    "n of 1024 bits": jwk("odd", key="small", bits=1024),
    "n of 2047 bits": jwk("odd", n=b64(b"\x7f" + b"\xff" * 255)),
    "n of 8200 bits": jwk("odd", n=b64(b"\xff" * 1025)),
    "e missing": jwk("odd", e=DROP),
    "e a number": jwk("odd", e=65537),
    "e zero": jwk("odd", e="AA"),
    "e one": jwk("odd", e="AQ"),
    "e even": jwk("odd", e=number(65536)),
    "e enormous": jwk("odd", e=b64(b"\xff" * 64)),
    "a private key": jwk("odd", d=number(private_key().private_numbers().d)),
}


@pytest.mark.parametrize("odd", ODD_ENTRIES.values(), ids=ODD_ENTRIES.keys())
def test_an_odd_entry_is_skipped_and_the_others_serve(odd: object) -> None:
    keys = read_jwks(document(odd, jwk("good"), odd))
    assert list(keys) == ["good"]
    verify(token(header={"kid": "good"}), keys=keys, rules=RULES, now=NOW)


GOOD_ENTRIES: dict[str, dict[str, object]] = {
    "as Cognito writes it": jwk("k"),
    "without use": jwk("k", use=DROP),
    "without alg": jwk("k", alg=DROP),
    "with key_ops": jwk("k", key_ops=["verify"]),
    "with certificates": jwk("k", x5c=["MIIB"], x5t="abc"),
    "with a leading zero byte in n": jwk(
        "k", n=b64(b"\0" + base64.urlsafe_b64decode(str(jwk()["n"]) + "=="))
    ),
    "of 3072 bits": jwk("k", key="large", bits=3072),
}


@pytest.mark.parametrize("entry", GOOD_ENTRIES.values(), ids=GOOD_ENTRIES.keys())
def test_a_usable_entry_is_taken(entry: dict[str, object]) -> None:
    assert list(read_jwks(document(entry))) == ["k"]


def test_every_usable_key_is_found_by_its_own_name() -> None:
    keys = read_jwks(document(jwk("a"), jwk("b", key="second")))
    verify(token(header={"kid": "a"}), keys=keys, rules=RULES, now=NOW)
    verify(token(header={"kid": "b"}, key="second"), keys=keys, rules=RULES, now=NOW)


def test_a_name_of_two_different_keys_is_nobodys() -> None:
    keys = read_jwks(document(jwk("twice"), jwk("once"), jwk("twice", key="second")))
    assert list(keys) == ["once"]


def test_the_same_key_twice_counts_once() -> None:
    assert list(read_jwks(document(jwk("k"), jwk("k")))) == ["k"]


def test_a_name_shared_with_an_unusable_entry_is_still_good() -> None:
    assert list(read_jwks(document(jwk("k", use="enc"), jwk("k")))) == ["k"]


BAD_DOCUMENTS: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"<html>",
    "cut off": document(jwk())[:-5],
    "null": b"null",
    "a list": json.dumps([jwk()]).encode(),
    "a bare key": json.dumps(jwk()).encode(),
    "keys missing": b"{}",
    "keys an object": b'{"keys": {}}',
    "keys null": b'{"keys": null}',
    "no keys": b'{"keys": []}',
    "no usable key": document(*ODD_ENTRIES.values()),
    "only an ambiguous key": document(jwk("k"), jwk("k", key="second")),
    "NaN": b'{"keys": [NaN]}',
    "not UTF-8": b'{"keys": ["\xff"]}',
    "too deep": b'{"keys": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "too large": document(jwk("k")) + b" " * MAX_DOCUMENT_BYTES,
}


@pytest.mark.parametrize("content", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS.keys())
def test_a_document_without_a_usable_key_is_an_error(content: bytes) -> None:
    with pytest.raises(JwksDocumentError):
        read_jwks(content)


async def test_fixed_keys_answer_at_once_and_need_no_closing() -> None:
    fixed = FixedKeys(read_jwks(document(jwk("k"))))
    found = await fixed.find("k")
    assert found is not None
    assert found.kid == "k"
    assert await fixed.find("other") is None
    await fixed.settle()
    await fixed.aclose()

from collections.abc import Callable

import pytest

from storage.blobs.signing import UrlSigner
from storage.keys import blob_key
from storage.records import BlobRef
from tests.storage.contract.blob_stores import parts_of
from tests.storage.samples import ANNA, BEN, NOW

SIGNER = UrlSigner(b"s" * 32)
REF = BlobRef(key=blob_key(ANNA, "payload"), bytes=10, sha256="ab" * 32)

Query = dict[str, str]


def download() -> tuple[str, Query]:
    return parts_of(SIGNER.sign_download(ANNA, REF, now=NOW).url)


def upload() -> tuple[str, Query]:
    return parts_of(SIGNER.sign_upload(ANNA, REF, now=NOW).url)


def test_a_url_is_a_path_on_our_own_origin() -> None:
    signed = SIGNER.sign_download(ANNA, REF, now=NOW + 0.9)

    assert signed.url.startswith("/v1/payloads/acme/anna/payload?expires=1000300&sig=")
    assert signed.expires_at == NOW + 300
    assert SIGNER.sign_upload(ANNA, REF, now=NOW).method == "PUT"


def test_what_was_signed_verifies() -> None:
    assert SIGNER.verify_download(*download(), now=NOW)
    assert SIGNER.verify_upload(*upload(), now=NOW) == REF


TAMPERED: dict[str, Callable[[Query], Query]] = {
    "later": lambda query: query | {"expires": "9999999"},
    "no expiry": lambda query: query | {"expires": ""},
    "a negative expiry": lambda query: query | {"expires": "-1"},
    "an expiry in other digits": lambda query: query | {"expires": "１０００３００"},
    "an expiry with a sign": lambda query: query | {"expires": "+" + query["expires"]},
    "an endless expiry": lambda query: query | {"expires": "9" * 5000},
    "another signature": lambda query: query | {"sig": "A" * 43},
    "a shorter signature": lambda query: query | {"sig": query["sig"][:-1]},
    "no signature": lambda query: {key: value for key, value in query.items() if key != "sig"},
    "a signature in Japanese": lambda query: query | {"sig": "署名"},
    "a lone surrogate": lambda query: query | {"sig": "\ud83d"},
    "nothing": lambda query: {},
}


@pytest.mark.parametrize("case", TAMPERED)
@pytest.mark.parametrize("sign", [download, upload])
def test_a_tampered_url_is_refused(sign: Callable[[], tuple[str, Query]], case: str) -> None:
    key, query = sign()
    tampered = TAMPERED[case](query)

    assert not SIGNER.verify_download(key, tampered, now=NOW)
    assert SIGNER.verify_upload(key, tampered, now=NOW) is None


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": "11"},
        {"bytes": ""},
        {"bytes": "010"},
        {"bytes": "-10"},
        {"sha256": "cd" * 32},
        {"sha256": "AB" * 32},
        {"sha256": ""},
    ],
    ids=str,
)
def test_an_upload_is_bound_to_size_and_hash(change: Query) -> None:
    key, query = upload()

    assert SIGNER.verify_upload(key, query | change, now=NOW) is None


def test_a_download_is_no_upload_and_the_other_way_round() -> None:
    key, query = download()
    assert SIGNER.verify_upload(key, query, now=NOW) is None
    assert SIGNER.verify_upload(key, query | {"bytes": "10", "sha256": "ab" * 32}, now=NOW) is None

    key, query = upload()
    assert not SIGNER.verify_download(key, query, now=NOW)


@pytest.mark.parametrize(
    "key",
    [
        blob_key(BEN, "payload"),
        "acme/anna/../ben/payload",
        "acme/anna/payload\n",
        "",
        "/etc/passwd",
    ],
)
def test_a_url_is_good_for_its_key_only(key: str) -> None:
    assert not SIGNER.verify_download(key, download()[1], now=NOW)
    assert SIGNER.verify_upload(key, upload()[1], now=NOW) is None


def test_another_secret_refuses() -> None:
    other = UrlSigner(b"t" * 32)

    assert not other.verify_download(*download(), now=NOW)
    assert other.verify_upload(*upload(), now=NOW) is None

import pytest

from streaming.chunks import decode_chunk
from streaming.errors import ParseError


@pytest.mark.parametrize("data", [b"", b" ", b"\r\n"], ids=repr)
def test_empty_data_is_an_empty_chunk(data: bytes) -> None:
    assert decode_chunk(data) == {}


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"x"', b"true"], ids=repr)
def test_a_chunk_is_an_object(data: bytes) -> None:
    with pytest.raises(ParseError, match="not_an_object"):
        decode_chunk(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[DONE]", "syntax"),
        (b"<html>", "syntax"),
        (b'{"a":', "syntax"),
        (b"\xff", "encoding"),
        (b'\xef\xbb\xbf{"a":1}', "syntax"),
        (b'{"a":NaN}', "not_finite"),
    ],
    ids=repr,
)
def test_what_is_no_chunk_has_a_code(data: bytes, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        decode_chunk(data)
    assert caught.value.code == code

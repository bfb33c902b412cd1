"""The table: tokens that must be refused, each with the check meant for it, and tokens that must not."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from gateway.identity.claims import TokenRules
from gateway.identity.errors import Flaw
from gateway.identity.tokens import MAX_TOKEN_BYTES
from tests.gateway.identity.forge import (
    CLAIMS,
    CLIENT,
    DROP,
    HEADER,
    ID_RULES,
    ISSUER,
    KID,
    NOW,
    OIDC_RULES,
    RULES,
    b64,
    dumps,
    jwk,
    private_key,
    sign,
    token,
)

Make = Callable[[], str]


@dataclass(frozen=True)
class Attack:
    """A token and the check that must refuse it."""

    name: str
    flaw: Flaw
    make: Make
    rules: TokenRules = RULES


def header(name: str, flaw: Flaw, **members: object) -> Attack:
    return Attack(f"header: {name}", flaw, lambda: token(header=members))


def raw_header(name: str, flaw: Flaw, content: bytes | str) -> Attack:
    encoded = content.encode() if isinstance(content, str) else content
    return Attack(f"header: {name}", flaw, lambda: token(header=encoded))


def claim(name: str, flaw: Flaw, rules: TokenRules = RULES, **members: object) -> Attack:
    return Attack(f"claims: {name}", flaw, lambda: token(claims=members), rules)


def raw_claims(name: str, flaw: Flaw, content: bytes | str) -> Attack:
    encoded = content.encode() if isinstance(content, str) else content
    return Attack(f"claims: {name}", flaw, lambda: token(claims=encoded))


def text(name: str, flaw: Flaw, change: Callable[[str], str]) -> Attack:
    return Attack(f"text: {name}", flaw, lambda: change(token()))


def segment(name: str, index: int, change: Callable[[str], str], flaw: Flaw = Flaw.SHAPE) -> Attack:
    """Change one segment; the first two are signed again, so that only their spelling is wrong."""

    def make() -> str:
        segments = token().split(".")
        segments[index] = change(segments[index])
        return ".".join(segments) if index == 2 else sign(".".join(segments[:2]))

    return Attack(f"segment {index}: {name}", flaw, make)


def with_claim(member: str) -> bytes:
    """Return good claims whose `exp` is replaced by text that `json.dumps` would not write."""
    return dumps({**CLAIMS, "exp": DROP})[:-1] + b"," + member.encode() + b"}"


def public_pem() -> bytes:
    return (
        private_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def mac(algorithm: str, secret: Callable[[], bytes]) -> Make:
    """The classic confusion: the public key as the secret of a MAC."""

    def make() -> str:
        signed = f"{b64(dumps({**HEADER, 'alg': algorithm}))}.{b64(dumps(CLAIMS))}"
        digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm]
        return f"{signed}.{b64(hmac.new(secret(), signed.encode(), digest).digest())}"

    return make


def signed_otherwise(scheme: padding.AsymmetricPadding, digest: hashes.HashAlgorithm) -> Make:
    def make() -> str:
        signed = f"{b64(dumps(HEADER))}.{b64(dumps(CLAIMS))}"
        return f"{signed}.{b64(private_key().sign(signed.encode(), scheme, digest))}"

    return make


def signed_by_curve() -> str:
    signed = f"{b64(dumps({**HEADER, 'alg': 'ES256'}))}.{b64(dumps(CLAIMS))}"
    signature = ec.generate_private_key(ec.SECP256R1()).sign(
        signed.encode(), ec.ECDSA(hashes.SHA256())
    )
    return f"{signed}.{b64(signature)}"


def next_to_canonical(encoded: str) -> str:
    """Set a bit of the last character that decoders drop."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return encoded[:-1] + alphabet[alphabet.index(encoded[-1]) ^ 1]


def padded_to(residue: int) -> bytes:
    """Return good claims whose encoding leaves spare bits in its last character."""
    for filler in range(3):
        claims = dumps({**CLAIMS, "filler": "x" * filler})
        if len(claims) % 3 == residue:
            return claims
    raise AssertionError("unreachable")


def uncanonical_claims(residue: int) -> Make:
    return lambda: sign(f"{b64(dumps(HEADER))}.{next_to_canonical(b64(padded_to(residue)))}")


def of_size(size: int) -> Make:
    """A good token of exactly so many bytes."""

    def make() -> str:
        bare = len(dumps({**CLAIMS, "filler": ""}))
        for extra in range(3):  # not every length is that of an encoding: shift it by the header's
            head = {"filler": "x" * extra}
            rest = size - len(b64(dumps({**HEADER, **head}))) - len(b64(bytes(256))) - 2
            made = token(header=head, claims={"filler": "x" * (rest * 3 // 4 - bare)})
            if len(made) == size:
                return made
        raise AssertionError("no token has that size")

    return make


def other_signature() -> str:
    return ".".join([*token().split(".")[:2], token(claims={"sub": "eve"}).split(".")[2]])


def flattened_json() -> str:
    protected, payload, signature = token().split(".")
    return json.dumps({"payload": payload, "protected": protected, "signature": signature})


def general_json() -> str:
    protected, payload, signature = token().split(".")
    return json.dumps(
        {"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}
    )


def encrypted() -> str:
    head = b64(dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": KID}))
    return f"{head}.{b64(b'k' * 256)}.{b64(b'i' * 12)}.{b64(b'c' * 64)}.{b64(b't' * 16)}"


def detached() -> str:
    head, _, signature = token().split(".")
    return f"{head}..{signature}"


ALGORITHMS = [
    *(
        header(f"alg {alg!r}", Flaw.ALGORITHM, alg=alg)
        for alg in (
            *("none", "None", "NONE", "nOnE", ""),
            *("rs256", "Rs256", "RS256 ", " RS256", "RS-256", "RS256\x00", "ＲＳ256"),
            *("RS384", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA", "HS256"),
            *("RSA1_5", "RSA-OAEP", "dir", "A128KW", "RS1", "RS2", "sha256"),
        )
    ),
    *(
        header(f"alg is {alg!r}", Flaw.ALGORITHM, alg=alg)
        for alg in (None, True, 256, 1.5, ["RS256"], {"RS256": 1}, [])
    ),
    header("alg missing", Flaw.ALGORITHM, alg=DROP),
    header("Alg instead of alg", Flaw.ALGORITHM, alg=DROP, Alg="RS256"),
    Attack("HS256 with the public PEM", Flaw.ALGORITHM, mac("HS256", public_pem)),
    Attack(
        "HS256 with the PEM, stripped", Flaw.ALGORITHM, mac("HS256", lambda: public_pem().strip())
    ),
    Attack(
        "HS256 with the modulus", Flaw.ALGORITHM, mac("HS256", lambda: str(jwk()["n"]).encode())
    ),
    Attack("HS384 with the public PEM", Flaw.ALGORITHM, mac("HS384", public_pem)),
    Attack("HS512 with the public PEM", Flaw.ALGORITHM, mac("HS512", public_pem)),
    Attack("HS256 with an empty secret", Flaw.ALGORITHM, mac("HS256", lambda: b"")),
    Attack("ES256 by a key of its own", Flaw.ALGORITHM, signed_by_curve),
    Attack(
        "none without a signature",
        Flaw.SHAPE,
        lambda: f"{b64(dumps({'alg': 'none', 'kid': KID}))}.{b64(dumps(CLAIMS))}.",
    ),
    Attack(
        "none with some signature",
        Flaw.ALGORITHM,
        lambda: f"{b64(dumps({'alg': 'none', 'kid': KID}))}.{b64(dumps(CLAIMS))}.AAAA",
    ),
]

EXTENSIONS = [
    header("crit", Flaw.EXTENSION, crit=["exp"]),
    header("crit, understood by nobody", Flaw.EXTENSION, crit=["urn:x"], **{"urn:x": 1}),
    header("crit empty", Flaw.EXTENSION, crit=[]),
    header("crit null", Flaw.EXTENSION, crit=None),
    header("crit a string", Flaw.EXTENSION, crit="exp"),
    header("b64 false", Flaw.EXTENSION, b64=False),
    header("b64 true", Flaw.EXTENSION, b64=True),
    header("b64 and crit", Flaw.EXTENSION, b64=False, crit=["b64"]),
    header("cty JWT", Flaw.EXTENSION, cty="JWT"),
    header("cty anything", Flaw.EXTENSION, cty="json"),
    header("cty null", Flaw.EXTENSION, cty=None),
    *(
        header(f"typ {typ!r}", Flaw.TYPE, typ=typ)
        for typ in (
            *("logout+jwt", "secevent+jwt", "dpop+jwt", "JOSE", "JOSE+JSON", "", "JWT ", "JWE"),
            *(None, 1, True, ["JWT"], {"JWT": 1}),
        )
    ),
]

OWN_KEYS = [
    # The key that the attacker brings along is never read: their signature meets the issuer's key.
    Attack(
        f"header: {name}",
        Flaw.SIGNATURE,
        lambda members=members: token(header=members(), key="attacker"),
    )
    for name, members in {
        "jwk of the attacker": lambda: {"jwk": jwk(key="attacker")},
        "jku of the attacker": lambda: {"jku": "https://evil.example/jwks.json"},
        "jku on the issuer's host": lambda: {"jku": f"{ISSUER}/../evil.json"},
        "x5u of the attacker": lambda: {"x5u": "https://evil.example/cert.pem"},
        "x5c of the attacker": lambda: {"x5c": [base64.b64encode(b"cert").decode()]},
        "all four": lambda: {"jwk": jwk(key="attacker"), "jku": "x", "x5u": "x", "x5c": ["x"]},
    }.items()
]

KEY_IDS = [
    header("kid missing", Flaw.KEY_ID, kid=DROP),
    header("KID instead of kid", Flaw.KEY_ID, kid=DROP, KID=KID),
    *(
        header(f"kid is {kid!r}", Flaw.KEY_ID, kid=kid)
        for kid in (None, 1, 0, True, 1.5, [KID], {KID: 1}, [], "")
    ),
    header("kid of 257 characters", Flaw.KEY_ID, kid="k" * 257),
    header("kid of 8 KiB", Flaw.KEY_ID, kid="k" * 8192),
    *(
        header(f"kid {kid!r}", Flaw.UNKNOWN_KEY, kid=kid)
        for kid in (
            *("key-2", "KEY-1", "key-1 ", " key-1", "key-1\x00", "key-1\n", "ｋey-1", "kéy"),
            *("../../etc/passwd", "/dev/null", "file:///dev/null", "C:\\windows\\win.ini"),
            *("' OR '1'='1", "key-1; rm -rf /", "| id", "__class__", "https://evil.example/k", "*"),
            *("k" * 256, "\ud83d", "鍵"),
        )
    ),
]

HEADERS = [
    raw_header("empty object", Flaw.ALGORITHM, "{}"),
    *(
        raw_header(f"not an object: {content!r}", Flaw.HEADER, content)
        for content in (
            *('"RS256"', "[]", '[{"alg":"RS256"}]', "null", "1", "true", '[["alg","RS256"]]'),
            *(" ", "{", "}", '{"alg"', '{"alg":"RS256",}', "{'alg':'RS256'}", "{alg:1}"),
            *('{"alg":"RS256","kid":"key-1"}x', '{"alg":"RS256","kid":"key-1"}{}'),
            *('/**/{"alg":"RS256","kid":"key-1"}', '{"alg":"RS256","kid":"key\n-1"}'),
        )
    ),
    raw_header("alg twice, none last", Flaw.HEADER, '{"alg":"RS256","kid":"key-1","alg":"none"}'),
    raw_header("alg twice, none first", Flaw.HEADER, '{"alg":"none","kid":"key-1","alg":"RS256"}'),
    raw_header("alg twice, equal", Flaw.HEADER, '{"alg":"RS256","kid":"key-1","alg":"RS256"}'),
    raw_header(
        "alg twice, one escaped", Flaw.HEADER, r'{"alg":"RS256","kid":"key-1","\u0061lg":"none"}'
    ),
    raw_header("kid twice", Flaw.HEADER, '{"alg":"RS256","kid":"key-1","kid":"key-2"}'),
    raw_header(
        "twice, deep inside", Flaw.HEADER, '{"alg":"RS256","kid":"key-1","x":[{"a":1,"a":2}]}'
    ),
    raw_header("NaN", Flaw.HEADER, '{"alg":"RS256","kid":"key-1","x":NaN}'),
    raw_header("Infinity", Flaw.HEADER, '{"alg":"RS256","kid":"key-1","x":-Infinity}'),
    raw_header(
        "a number of 5000 digits",
        Flaw.HEADER,
        '{"alg":"RS256","kid":"key-1","x":' + "9" * 5000 + "}",
    ),
    raw_header("BOM", Flaw.HEADER, b"\xef\xbb\xbf" + dumps(HEADER)),
    raw_header("UTF-16", Flaw.HEADER, dumps(HEADER).decode().encode("utf-16")),
    raw_header("Latin-1", Flaw.HEADER, '{"alg":"RS256","kid":"é"}'.encode("latin-1")),
    raw_header("overlong UTF-8", Flaw.HEADER, b'{"alg":"RS256","kid":"\xc0\xaf"}'),
    raw_header("surrogate in UTF-8", Flaw.HEADER, b'{"alg":"RS256","kid":"\xed\xa0\xbd"}'),
    raw_header("zero byte", Flaw.HEADER, b'{"alg":"RS256","kid":"key-1\x00"}'),
    raw_header("10,000 arrays deep", Flaw.HEADER, "[" * 10_000),
    raw_header("5,000 arrays deep, closed", Flaw.HEADER, '{"x":' + "[" * 5000 + "]" * 5000 + "}"),
    raw_header("1,900 objects deep", Flaw.HEADER, '{"a":' * 1900 + "1" + "}" * 1900),
]

TEXTS = [
    Attack("text: empty", Flaw.SHAPE, lambda: ""),
    *(
        Attack(f"text: {value!r}", Flaw.SHAPE, lambda value=value: value)
        for value in (".", "..", "...", "a", "a.b", "a..c", ".b.c", "a.b.", "null", "undefined")
    ),
    text("one segment", Flaw.SHAPE, lambda t: t.split(".")[0]),
    text("two segments", Flaw.SHAPE, lambda t: t.rsplit(".", 1)[0]),
    text("four segments", Flaw.SHAPE, lambda t: t + ".AAAA"),
    text("five segments", Flaw.SHAPE, lambda t: t + ".AAAA.AAAA"),
    text("a dot at the end", Flaw.SHAPE, lambda t: t + "."),
    text("a dot at the start", Flaw.SHAPE, lambda t: "." + t),
    text("a space at the end", Flaw.SHAPE, lambda t: t + " "),
    text("a space at the start", Flaw.SHAPE, lambda t: " " + t),
    text("a newline at the end", Flaw.SHAPE, lambda t: t + "\n"),
    text("CRLF at the end", Flaw.SHAPE, lambda t: t + "\r\n"),
    text("a tab inside", Flaw.SHAPE, lambda t: t[:20] + "\t" + t[20:]),
    text("a newline inside", Flaw.SHAPE, lambda t: t[:20] + "\n" + t[20:]),
    text("a zero byte at the end", Flaw.SHAPE, lambda t: t + "\x00"),
    text("BOM", Flaw.SHAPE, lambda t: "\ufeff" + t),
    text("full-width dots", Flaw.SHAPE, lambda t: t.replace(".", "．")),
    text("full-width letter", Flaw.SHAPE, lambda t: "ｅ" + t[1:]),
    text("Arabic digit", Flaw.SHAPE, lambda t: t[:-1] + "٣"),
    text("Kelvin sign", Flaw.SHAPE, lambda t: t[:-1] + "\u212a"),
    text("emoji", Flaw.SHAPE, lambda t: t + "🔑"),
    text("lone surrogate", Flaw.SHAPE, lambda t: t + "\ud83d"),
    text("zero-width space", Flaw.SHAPE, lambda t: t[:9] + "\u200b" + t[9:]),
    text("quoted", Flaw.SHAPE, lambda t: f'"{t}"'),
    text("Bearer in front", Flaw.SHAPE, lambda t: f"Bearer {t}"),
    text("percent-encoded", Flaw.SHAPE, lambda t: t.replace(".", "%2E")),
    text("two tokens", Flaw.SHAPE, lambda t: f"{t},{t}"),
    Attack("JWS flattened JSON", Flaw.SHAPE, flattened_json),
    Attack("JWS general JSON", Flaw.SHAPE, general_json),
    Attack("JWE", Flaw.SHAPE, encrypted),
    Attack("JWE in three segments", Flaw.ALGORITHM, lambda: ".".join(encrypted().split(".")[:3])),
    Attack("detached payload", Flaw.SHAPE, detached),
    Attack("16 KiB + 1", Flaw.SIZE, of_size(MAX_TOKEN_BYTES + 1)),
    Attack("1 MiB", Flaw.SIZE, lambda: token() + "A" * 2**20),
    Attack("1 MiB of dots", Flaw.SIZE, lambda: "." * 2**20),
]

SEGMENTS = [
    *(
        segment(name, index, change)
        for index in (0, 1, 2)
        for name, change in {
            "padded with one =": lambda s: s + "=",
            "padded with ==": lambda s: s + "==",
            "plus": lambda s: "+" + s[1:],
            "slash": lambda s: "/" + s[1:],
            "space": lambda s: s[:4] + " " + s[4:],
            "newline": lambda s: s[:4] + "\n" + s[4:],
            "zero byte": lambda s: s[:4] + "\x00" + s[4:],
            "a length that no encoding has": lambda s: s + "A" * ((1 - len(s)) % 4),
        }.items()
    ),
    Attack("segment 1: spare bits of one byte", Flaw.SHAPE, uncanonical_claims(1)),
    Attack("segment 1: spare bits of two bytes", Flaw.SHAPE, uncanonical_claims(2)),
    segment("spare bits", 2, next_to_canonical),
]

SIGNATURES = [
    Attack("signature: of another key", Flaw.SIGNATURE, lambda: token(key="attacker")),
    Attack("signature: of another token", Flaw.SIGNATURE, other_signature),
    segment(
        "truncated by 3 bytes",
        2,
        lambda s: b64(base64.urlsafe_b64decode(s + "==")[:-3]),
        Flaw.SIGNATURE,
    ),
    segment("truncated to 1 byte", 2, lambda _: "AA", Flaw.SIGNATURE),
    segment(
        "a zero byte longer",
        2,
        lambda s: b64(base64.urlsafe_b64decode(s + "==") + b"\0"),
        Flaw.SIGNATURE,
    ),
    segment(
        "a zero byte in front",
        2,
        lambda s: b64(b"\0" + base64.urlsafe_b64decode(s + "==")),
        Flaw.SIGNATURE,
    ),
    segment("all zeros", 2, lambda _: b64(bytes(256)), Flaw.SIGNATURE),
    segment("one", 2, lambda _: b64(bytes(255) + b"\1"), Flaw.SIGNATURE),
    segment("all ones", 2, lambda _: b64(b"\xff" * 256), Flaw.SIGNATURE),
    segment("of 4 KiB", 2, lambda _: b64(b"\x01" * 4096), Flaw.SIGNATURE),
    segment("a SHA-256", 2, lambda s: b64(hashlib.sha256(s.encode()).digest()), Flaw.SIGNATURE),
    Attack(
        "signature: PKCS#1 with SHA-384",
        Flaw.SIGNATURE,
        signed_otherwise(padding.PKCS1v15(), hashes.SHA384()),
    ),
    Attack(
        "signature: PKCS#1 with SHA-1",
        Flaw.SIGNATURE,
        signed_otherwise(padding.PKCS1v15(), hashes.SHA1()),
    ),
    Attack(
        "signature: PSS",
        Flaw.SIGNATURE,
        signed_otherwise(padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    ),
    Attack(
        "payload exchanged",
        Flaw.SIGNATURE,
        lambda: ".".join(
            [token().split(".")[0], b64(dumps({**CLAIMS, "sub": "eve"})), token().split(".")[2]]
        ),
    ),
    Attack(
        "header exchanged",
        Flaw.SIGNATURE,
        lambda: ".".join([b64(dumps({**HEADER, "x": 1})), *token().split(".")[1:]]),
    ),
]

PAYLOADS = [
    *(
        raw_claims(f"not an object: {content!r}", Flaw.PAYLOAD, content)
        for content in (
            *("[]", "null", '"sub"', "1", "{", "{'sub':1}", '{"sub":"a",}', "hello", "true"),
            *(b"\xff\xfe", b"\x00", b"\xef\xbb\xbf{}", b'{"sub":"\xed\xa0\xbd"}'),
        )
    ),
    raw_claims("sub twice", Flaw.PAYLOAD, dumps(CLAIMS)[:-1] + b',"sub":"eve"}'),
    raw_claims("exp twice", Flaw.PAYLOAD, dumps(CLAIMS)[:-1] + b',"exp":9999999999}'),
    raw_claims("sub twice, one escaped", Flaw.PAYLOAD, dumps(CLAIMS)[:-1] + rb',"s\u0075b":"eve"}'),
    raw_claims(
        "twice, deep inside", Flaw.PAYLOAD, dumps(CLAIMS)[:-1] + b',"x":{"a":{"b":1,"b":1}}}'
    ),
    raw_claims("10,000 arrays deep", Flaw.PAYLOAD, "[" * 10_000),
    raw_claims("1,900 objects deep", Flaw.PAYLOAD, '{"a":' * 1900 + "1" + "}" * 1900),
    raw_claims("gzip", Flaw.PAYLOAD, b"\x1f\x8b\x08\x00\x00"),
    raw_claims("exp NaN", Flaw.PAYLOAD, with_claim('"exp":NaN')),
    raw_claims("exp Infinity", Flaw.PAYLOAD, with_claim('"exp":Infinity')),
    raw_claims("exp -Infinity", Flaw.PAYLOAD, with_claim('"exp":-Infinity')),
    raw_claims("exp of 5000 digits", Flaw.PAYLOAD, with_claim('"exp":' + "9" * 5000)),
]

TIMES = [
    claim("exp missing", Flaw.TIME, exp=DROP),
    *(
        claim(f"{name} is {value!r}", Flaw.TIME, **{name: value})
        for name in ("exp", "nbf", "iat")
        for value in (
            *(None, True, False, "1800003600", "", [], [1], {}),
            *(-1, -1.5, 10**400, 253_402_300_800, 1.8e12, 10**18),
        )
    ),
    raw_claims("exp 1e400", Flaw.TIME, with_claim('"exp":1e400')),
    raw_claims("exp -1e400", Flaw.TIME, with_claim('"exp":-1e400')),
    raw_claims("exp of 400 digits", Flaw.TIME, with_claim('"exp":' + "9" * 400)),
    claim("exp in milliseconds", Flaw.TIME, exp=(NOW + 3600) * 1000),
    *(
        claim(f"{name} in the future by {ahead}", Flaw.NOT_YET, **{name: NOW + ahead})
        for name in ("nbf", "iat")
        for ahead in (30.001, 31, 3600, 10**9)
    ),
    claim("expired, and not yet valid", Flaw.NOT_YET, exp=NOW - 900, nbf=NOW + 900),
]

ISSUERS = [
    claim("iss missing", Flaw.ISSUER, iss=DROP),
    *(
        claim(f"iss {issuer!r}", Flaw.ISSUER, iss=issuer)
        for issuer in (
            *(
                f"{ISSUER}/",
                ISSUER.upper(),
                ISSUER[:-1],
                f" {ISSUER}",
                f"{ISSUER}\n",
                ISSUER + "\x00",
            ),
            *(
                ISSUER.replace("https", "http"),
                "https://issuer.example",
                "https://evil.example",
                "",
            ),
            *(None, 1, True, [ISSUER], [], {ISSUER: 1}, {"iss": ISSUER}),
        )
    ),
]

USES = [
    claim("token_use missing", Flaw.TOKEN_USE, token_use=DROP),
    *(
        claim(f"token_use {use!r}", Flaw.TOKEN_USE, token_use=use)
        for use in ("id", "refresh", "Access", "access ", "", None, True, ["access"], {"access": 1})
    ),
    claim("an access token for an id", Flaw.TOKEN_USE, ID_RULES, token_use="access"),
    claim("client_id missing", Flaw.AUDIENCE, client_id=DROP),
    *(
        claim(f"client_id {client!r}", Flaw.AUDIENCE, client_id=client)
        for client in (
            *("client-3", "CLIENT-1", "client-1 ", "", "*", "client-1,client-2"),
            *(None, 1, True, [CLIENT], [], {CLIENT: 1}),
        )
    ),
    claim("aud right, client_id wrong", Flaw.AUDIENCE, aud=CLIENT, client_id="client-3"),
    *(
        replace(attack, name=f"{attack.name} ({kind})")
        for kind, rules, use in (("id", ID_RULES, "id"), ("generic", OIDC_RULES, DROP))
        for attack in (
            claim("aud missing", Flaw.AUDIENCE, rules, aud=DROP, token_use=use),
            claim("client_id right, aud wrong", Flaw.AUDIENCE, rules, aud="x", token_use=use),
            *(
                claim(f"aud {audience!r}", Flaw.AUDIENCE, rules, aud=audience, token_use=use)
                for audience in (
                    *("client-3", "", "client-1 ", None, 1, True, {CLIENT: 1}),
                    *([], ["client-3"], [""], [None], [CLIENT, 1], [CLIENT, None], [[CLIENT]]),
                )
            ),
        )
    ),
]

SUBJECTS = [
    claim("sub missing", Flaw.SUBJECT, sub=DROP),
    *(
        claim(f"sub {subject!r}", Flaw.SUBJECT, sub=subject)
        for subject in (
            *("", " ", "user 1", "user-1 ", " user-1", "user-1\n", "\n", "user-1\x00"),
            *(
                "a#b",
                "acme#user",
                "a/b",
                "../b",
                "a\\b",
                "a,b",
                "a;b",
                "a'b",
                'a"b',
                "a%b",
            ),
            *("ユーザー", "usér", "ｕser", "\u200buser", "user\ud83d", "🙂", "x" * 129, "x" * 4000),
            *(None, 0, 1, True, ["user-1"], [], {"user-1": 1}),
        )
    ),
]

ATTACKS = [
    *ALGORITHMS,
    *EXTENSIONS,
    *OWN_KEYS,
    *KEY_IDS,
    *HEADERS,
    *TEXTS,
    *SEGMENTS,
    *SIGNATURES,
    *PAYLOADS,
    *TIMES,
    *ISSUERS,
    *USES,
    *SUBJECTS,
]


GOOD: dict[str, tuple[Make, TokenRules]] = {
    "as Cognito makes access tokens": (lambda: token(claims={"aud": DROP, "nbf": DROP}), RULES),
    "of the second client": (lambda: token(claims={"client_id": "client-2"}), RULES),
    "as Cognito makes id tokens": (
        lambda: token(claims={"client_id": DROP, "token_use": "id"}),
        ID_RULES,
    ),
    "generic, one audience": (lambda: token(claims={"token_use": DROP}), OIDC_RULES),
    "generic, several audiences": (
        lambda: token(claims={"aud": ["https://api.example", CLIENT], "token_use": DROP}),
        OIDC_RULES,
    ),
    "generic, any token_use": (lambda: token(claims={"token_use": "whatever"}), OIDC_RULES),
    "typ JWT": (lambda: token(header={"typ": "JWT"}), RULES),
    "typ at+jwt": (lambda: token(header={"typ": "at+jwt"}), RULES),
    "typ application/at+JWT": (lambda: token(header={"typ": "application/at+JWT"}), RULES),
    "x5t and nonce, as Entra ID adds": (lambda: token(header={"x5t": "a", "nonce": "b"}), RULES),
    # The issuer itself may send these; they are not looked at either way.
    "jku of the issuer": (lambda: token(header={"jku": "https://evil.example"}), RULES),
    "members in another order": (
        lambda: token(header=dumps({"kid": KID, "typ": "JWT", "alg": "RS256"})),
        RULES,
    ),
    "white space in the JSON": (
        lambda: token(claims=json.dumps(dict(CLAIMS), indent=2).encode()),
        RULES,
    ),
    "Japanese claims": (lambda: token(claims={"name": "真琴", "cognito:groups": ["猫"]}), RULES),
    "escaped names": (lambda: token(header=rb'{"\u0061lg":"RS256","kid":"key-1"}'), RULES),
    "braces inside a claim": (lambda: token(claims={"x": "[" * 2000 + "{" * 2000}), RULES),
    "integer dates": (lambda: token(claims={"exp": int(NOW) + 1, "iat": int(NOW)}), RULES),
    "fractional dates": (lambda: token(claims={"exp": NOW + 0.5}), RULES),
    "exp in exponent form": (lambda: token(claims=with_claim('"exp":1.9e9')), RULES),
    "without iat and nbf": (lambda: token(claims={"iat": DROP, "nbf": DROP}), RULES),
    "exp just within the leeway": (lambda: token(claims={"exp": NOW - 29.999}), RULES),
    "nbf at the end of the leeway": (lambda: token(claims={"nbf": NOW + 30}), RULES),
    "iat at the end of the leeway": (lambda: token(claims={"iat": NOW + 30}), RULES),
    "exp in the year 9999": (lambda: token(claims={"exp": 253_402_300_799}), RULES),
    "sub of one character": (lambda: token(claims={"sub": "u"}), RULES),
    "sub of 128 characters": (lambda: token(claims={"sub": "u" * 128}), RULES),
    "sub with every allowed sign": (lambda: token(claims={"sub": "aZ09_.:@=|+-"}), RULES),
    "sub as Auth0 makes it": (lambda: token(claims={"sub": "auth0|5f7c8ec7"}), RULES),
    "sub a UUID": (lambda: token(claims={"sub": "0a1b2c3d-0000-4000-8000-abcdefabcdef"}), RULES),
    "16 KiB": (of_size(MAX_TOKEN_BYTES), RULES),
}

"""Tokens that no verifier may accept: forged without a signing key, or signed with claims or a header that are
not those of an access token."""

import json

from claims import (
    AUDIENCE, ISSUER, KEYS, NOW, Json, claims, exchanged, header, parent, refused, signed,
)
from signing import EcKey, HmacKey, b64, encoded, number

GOOD = claims("forged")
KEY = KEYS["ES256"]
OTHER = EcKey("a forger's key")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def vectors() -> list[Json]:
    api_key = refused("an API key", "kwk_0123456789abcdef0123456789abcdef_x", "api_key")
    made = algorithms() + keys() + signatures() + forms() + headers() + wrong_claims() + chains()
    return [api_key, *made]


def unsigned(**changes: object) -> str:
    return f"{encoded(header(KEY, **changes))}.{encoded(GOOD)}"


def algorithms() -> list[Json]:
    pem_like = json.dumps(KEY.published()).encode()
    point = b"\4" + b"".join(number(int.from_bytes(part, "big"), 32) for part in coordinates())
    secrets = {"the key set's member": pem_like, "the point": point, "nothing": b""}
    return [
        *(
            refused(f"alg {name}, no signature", f"{unsigned(alg=name)}.", "malformed", "bad_signature")
            for name in ("none", "None", "NONE", "nOnE")
        ),
        refused("alg none, a signature", f"{unsigned(alg='none')}.{b64(bytes(64))}",
                "malformed", "bad_signature"),
        *(
            refused(f"HS256 with {what} as secret",
                    HmacKey(secret).signed(header(KEY, alg="HS256"), GOOD), "bad_signature")
            for what, secret in secrets.items()
        ),
        refused("alg RS256 with a P-256 key", KEY.signed(header(KEY, alg="RS256"), GOOD), "bad_signature"),
        refused("alg EdDSA with a P-256 key", KEY.signed(header(KEY, alg="EdDSA"), GOOD), "bad_signature"),
        refused("alg ES384 with a P-256 key", KEY.signed(header(KEY, alg="ES384"), GOOD), "bad_signature"),
        refused("RS256 by the key for PS256", by_algorithm("PS256", "RS256"), "bad_signature"),
        refused("PS256 by the key for RS256", by_algorithm("RS256", "PS256"), "bad_signature"),
        refused("alg missing", signed(GOOD, alg=...), "malformed"),
        refused("alg a number", signed(GOOD, alg=256), "malformed"),
    ]


def coordinates() -> list[bytes]:
    point = KEY.private.public_key().public_numbers()
    return [number(point.x, 32), number(point.y, 32)]


def by_algorithm(name: str, algorithm: str) -> str:
    """A signature of a published RSA key by another algorithm than its own."""
    key = KEYS[name]
    own, key.algorithm = key.algorithm, algorithm
    token = key.signed(header(key), GOOD)
    key.algorithm = own
    return token


def keys() -> list[Json]:
    own = {"kty": "EC"} | OTHER.members
    return [
        refused("another key under a published kid", OTHER.signed(header(KEY), GOOD), "bad_signature"),
        refused("unknown kid", OTHER.signed(header(OTHER), GOOD), "unknown_key"),
        refused("kid missing", signed(GOOD, kid=...), "unknown_key"),
        refused("kid empty", signed(GOOD, kid=""), "unknown_key"),
        refused("kid a number", signed(GOOD, kid=1), "malformed", "unknown_key"),
        refused("kid of another published key", signed(GOOD, kid=KEYS["revoked"].kid), "bad_signature"),
        refused("kid a path", OTHER.signed(header(OTHER, kid="../../dev/null"), GOOD), "unknown_key"),
        refused("jwk in the header", OTHER.signed(header(KEY, jwk=own), GOOD), "bad_signature"),
        refused("jwk in the header, no kid", OTHER.signed(header(KEY, kid=..., jwk=own), GOOD),
                "unknown_key"),
        refused("jku in the header", OTHER.signed(header(OTHER, jku="https://evil.example/jwks"), GOOD),
                "unknown_key"),
        refused("x5u in the header", OTHER.signed(header(OTHER, x5u="https://evil.example/crt"), GOOD),
                "unknown_key"),
    ]


def signatures() -> list[Json]:
    token = signed(GOOD)
    message, signature = token.rsplit(".", 1)
    head, payload = message.split(".")
    raw = KEY.sign(message.encode())
    other = claims("another", scope="calls.read calls.write calls.delete")
    bad = {
        "payload of another token": (f"{head}.{encoded(other)}.{signature}", "bad_signature"),
        "header of another key": (f"{encoded(header(KEYS['EdDSA']))}.{payload}.{signature}", "bad_signature"),
        "no signature": (f"{message}.", "bad_signature"),
        "signature of zeros": (f"{message}.{b64(bytes(64))}", "bad_signature"),
        "signature cut by a byte": (f"{message}.{b64(raw[:-1])}", "bad_signature"),
        "signature with a byte more": (f"{message}.{b64(raw + b'0')}", "bad_signature"),
        "signature in DER": (f"{message}.{b64(KEY.der(message.encode()))}", "bad_signature"),
        "r and s exchanged": (f"{message}.{b64(raw[32:] + raw[:32])}", "bad_signature"),
        "signature of another message": (f"{message}.{b64(KEY.sign(b'x'))}", "bad_signature"),
    }
    return [refused(name, token, reason) for name, (token, reason) in bad.items()]


def forms() -> list[Json]:
    token = signed(GOOD)
    head, payload, signature = token.split(".")
    # 64 bytes are 86 characters: the last one has four bits that do not count.
    last = ALPHABET[ALPHABET.index(signature[-1]) ^ 1]
    flattened = json.dumps({"protected": head, "payload": payload, "signature": signature})
    either = ("malformed", "bad_signature", "wrong_type", "unknown_key")
    tokens = {
        "empty": "",
        "a dot": ".",
        "two dots": "..",
        "two parts": f"{head}.{payload}",
        "four parts": f"{token}.{signature}",
        "five parts, as an encrypted token": f"{head}..{payload}.{signature}.{signature}",
        "a space before": f" {token}",
        "a line feed behind": f"{token}\n",
        "padding behind the signature": f"{token}==",
        "padding behind the header": f"{head}=.{payload}.{signature}",
        "bits of the signature that do not count": token[:-1] + last,
        "JSON serialization": flattened,
        "scheme before the token": f"Bearer {token}",
        "no token": "good",
        "longer than a token can be": signed(claims("long", scope="x" * 6000)),
        "payload that is no JSON": signed("{"),
        "payload that is an array": signed([GOOD]),
        "header that is no JSON": f"{encoded('{')}.{payload}.{signature}",
        "header that is an array": f"{encoded([header(KEY)])}.{payload}.{signature}",
        "header that is null": f"{encoded(None)}.{payload}.{signature}",
    }
    return [refused(name, token, *either) for name, token in tokens.items()]


def headers() -> list[Json]:
    wrong = {
        "typ JWT, as an ID token has": {"typ": "JWT"},
        "typ missing": {"typ": ...},
        "typ of a DPoP proof": {"typ": "dpop+jwt"},
        "typ of a client assertion": {"typ": "client-authentication+jwt"},
        "typ in upper case": {"typ": "AT+JWT"},
        "typ as a whole media type": {"typ": "application/at+jwt"},
        "crit": {"crit": ["exp"]},
        "crit with b64": {"crit": ["b64"], "b64": False},
        "crit that is empty": {"crit": []},
    }
    return [refused(name, signed(GOOD, **members), "wrong_type") for name, members in wrong.items()]


def wrong_claims() -> list[Json]:
    made = []
    for name in GOOD:
        made.append(refused(f"claim {name} missing", signed(claims("x", **{name: ...})), "malformed"))
        made.append(refused(f"claim {name} null", signed(claims("x", **{name: None})), "malformed"))
        made.append(refused(f"claim {name} an object", signed(claims("x", **{name: {}})), "malformed"))
    odd = {
        "exp text": {"exp": str(NOW + 900)},
        "exp a fraction": {"exp": NOW + 0.5},
        "exp true": {"exp": True},
        "iat text": {"iat": str(NOW)},
        "aud a list with a number": {"aud": [AUDIENCE, 1]},
        "scope a list": {"scope": ["calls.read"]},
        "sub a list": {"sub": [GOOD["sub"]]},
        "roles text": {"roles": "admin"},
        "epochs of two levels": {"epochs": [3, 5]},
        "epochs of four levels": {"epochs": [3, 5, 7, 9]},
        "epochs as text": {"epochs": ["3", "5", "7"]},
        "cnf with a member that is not known": {"cnf": {"jwk": OTHER.members}},
        "cnf text": {"cnf": "x"},
        "act text": {"act": "tenants/acme/applications/crm"},
    }
    made += [refused(f"claim {name}", signed(claims("x", **change)), "malformed")
             for name, change in odd.items()]
    made += [
        refused(f"issuer {issuer or 'empty'}", signed(claims("x", iss=issuer)), "wrong_issuer")
        for issuer in ("https://evil.example", ISSUER + "/", ISSUER.upper(), "")
    ]
    audiences = ["https://other.example", AUDIENCE + "/", AUDIENCE[:-1], "", [], ["https://other.example"],
                 [AUDIENCE + ".evil"]]
    made += [
        refused(f"audience {json.dumps(audience)}", signed(claims("x", aud=audience)), "wrong_audience")
        for audience in audiences
    ]
    for ahead in (61, 3600):
        future = claims("x", iat=NOW + ahead, exp=NOW + ahead + 900)
        made.append(refused(f"issued {ahead} s in the future", signed(future), "not_yet_valid"))
    return made


def chains() -> list[Json]:
    crm, gateway = parent("crm"), parent("gateway")
    wrong = {
        "parents beside epochs": exchanged("x", epochs=[3, 5, 7]),
        "parents empty": claims("x", epochs=..., parents=[]),
        "parents empty beside epochs": claims("x", parents=[]),
        "parents of one element": exchanged("x", [gateway], sub=gateway["sub"]),
        "first parent of another application": exchanged("x", [parent("other"), gateway]),
        "last parent of another client": claims("x", epochs=..., parents=[crm, gateway]),
        "parent with a member that is not known": exchanged("x", [crm | {"level": 1}, gateway]),
        "parent without epochs": exchanged("x", [parent("crm", epochs=...), gateway]),
        "parent that is text": exchanged("x", ["crm", gateway], sub="crm"),
    }
    return [refused(name, signed(payload), "malformed") for name, payload in wrong.items()]

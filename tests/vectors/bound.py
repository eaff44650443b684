"""Tokens that are bound to a key (DPoP, RFC 9449) or to a client certificate (RFC 8705)."""

import base64
import hashlib
from typing import Any

from claims import NOW, Json, claims, exchanged, refused, signed, valid
from signing import EcKey, Ed25519Key, HmacKey, Key, RsaKey, b64

METHOD, URL = "POST", "https://api.example/v1/calls"
# The verifier hashes it, and reads nothing in it.
CERTIFICATE, OTHER_CERTIFICATE = b"a certificate in DER", b"another certificate in DER"
SENDER = EcKey("key of the sender")
OTHER = EcKey("key of a thief")
KEYS: list[Key] = [
    SENDER,
    EcKey("key of the sender", "ES384"),
    Ed25519Key("key of the sender"),
    RsaKey("key of the sender", "PS256"),
    RsaKey("key of the sender", "RS256"),
]


def thumbprint(certificate: bytes) -> str:
    return b64(hashlib.sha256(certificate).digest())


def shown(certificate: bytes) -> Json:
    return {"certificate": base64.b64encode(certificate).decode()}


def token_for(name: str, **cnf: str) -> tuple[str, Json]:
    payload = claims(name, cnf={key.replace("x5t", "x5t#S256"): value for key, value in cnf.items()})
    return signed(payload), payload


def proof(token: str, key: Key = SENDER, header: Json | None = None, **changes: Any) -> str:
    """A proof for the token and the request of these vectors, with changes of its claims."""
    members = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": key.members} | (header or {})
    all_claims = {
        "jti": "0123456789abcdef",
        "htm": METHOD,
        "htu": URL,
        "iat": NOW,
        "ath": b64(hashlib.sha256(token.encode()).digest()),
    } | changes
    kept = [{name: value for name, value in part.items() if value is not ...}
            for part in (members, all_claims)]
    return key.signed(*kept)


def sent(made: str, method: str = METHOD, url: str = URL) -> Json:
    return {"dpop": {"proof": made, "method": method, "url": url}}


def vectors() -> list[Json]:
    return keys() + good_proofs() + wrong_proofs() + certificates() + both()


def keys() -> list[Json]:
    made = []
    for key in KEYS:
        token, payload = token_for(f"bound by {key.algorithm}", jkt=key.thumbprint)
        made.append(valid(f"proof by {key.algorithm}", token, payload, **sent(proof(token, key))))
    ed25519 = KEYS[2]
    token, payload = token_for("bound by Ed25519", jkt=ed25519.thumbprint)
    named = proof(token, ed25519, {"alg": "Ed25519"})
    return [*made, valid("proof by Ed25519, under its new name", token, payload, **sent(named))]


def good_proofs() -> list[Json]:
    token, payload = token_for("bound to a key", jkt=SENDER.thumbprint)
    changed = {
        "10 s ahead": {"iat": NOW + 10},
        "69 s old": {"iat": NOW - 69},
        "with a nonce": {"nonce": "opaque"},
        "with an end": {"exp": NOW + 1},
        "with a claim that is not known": {"extra": True},
        "for the URL in capitals and with the port": {"htu": "HTTPS://API.example:443/v1/calls"},
        "for the URL with a query": {"htu": URL + "?page=2"},
        "for the URL with a fragment": {"htu": URL + "#top"},
        "for the URL with encoded letters": {"htu": "https://api.example/v1/%63alls"},
        "for the URL with dot segments": {"htu": "https://api.example/v1/x/../calls"},
    }
    made = [valid(f"proof {name}", token, payload, **sent(proof(token, **change)))
            for name, change in changed.items()]
    query = sent(proof(token), url=URL + "?page=2")
    exchanged_payload = exchanged("bound and exchanged", cnf={"jkt": SENDER.thumbprint})
    exchanged_token = signed(exchanged_payload)
    return [
        *made,
        valid("proof for a request with a query", token, payload, **query),
        valid("proof for an exchanged token", exchanged_token, exchanged_payload,
              **sent(proof(exchanged_token))),
    ]


def wrong_proofs() -> list[Json]:
    token, _ = token_for("bound to a key", jkt=SENDER.thumbprint)
    other_token, _ = token_for("another bound to the key", jkt=SENDER.thumbprint)
    plain = signed(claims("bound to nothing"))
    good = proof(token)
    claims_of_proofs = {
        "for another method": {"htm": "GET"},
        "for the method in lower case": {"htm": "post"},
        "for another path": {"htu": "https://api.example/v1/users"},
        "for a slash more": {"htu": URL + "/"},
        "for another host": {"htu": "https://api.evil/v1/calls"},
        "for another port": {"htu": "https://api.example:8443/v1/calls"},
        "for http": {"htu": "http://api.example/v1/calls"},
        "for a path alone": {"htu": "/v1/calls"},
        "for a URL with a user": {"htu": "https://api.example@api.example/v1/calls"},
        "for an encoded slash": {"htu": "https://api.example/v1%2Fcalls"},
        "for a broken encoding": {"htu": "https://api.example/v1/%zzcalls"},
        "for another token": {"ath": b64(hashlib.sha256(other_token.encode()).digest())},
        "for no token": {"ath": ...},
        "70 s old": {"iat": NOW - 70},
        "11 s ahead": {"iat": NOW + 11},
        "that has ended": {"exp": NOW},
        "that is not valid yet": {"nbf": NOW + 11},
        "without iat": {"iat": ...},
        "with iat as text": {"iat": str(NOW)},
        "without jti": {"jti": ...},
        "with an empty jti": {"jti": ""},
        "with jti as a number": {"jti": 1},
        "without htm": {"htm": ...},
        "without htu": {"htu": ...},
    }
    headers_of_proofs = {
        "of type JWT": {"typ": "JWT"},
        "without a type": {"typ": ...},
        "without a key": {"jwk": ...},
        "with another key than it is signed with": {"jwk": OTHER.members},
        "with a private member": {"jwk": SENDER.members | {"d": b64(bytes(32))}},
        "with a key that is text": {"jwk": "key"},
        "with a point off the curve": {"jwk": SENDER.members | {"x": b64(bytes(32))}},
        "with another algorithm than its key's": {"alg": "RS256"},
        "with an algorithm that is not known": {"alg": "none"},
        "with a key for another algorithm": {"jwk": SENDER.members | {"alg": "ES384"}},
        "with a key for encryption": {"jwk": SENDER.members | {"use": "enc"}},
        "with crit": {"crit": ["exp"]},
        "with b64": {"b64": False},
    }
    hmac = HmacKey(b"secret")
    texts = {
        "that is empty": "",
        "that is no token": "proof",
        "that is the token itself": token,
        "with an altered signature": good[:-8] + "AAAAAAAA",
        "without a signature": good.rsplit(".", 1)[0] + ".",
        "with padding": good + "==",
        "given twice": f"{good}, {good}",
        "by HS256": hmac.signed({"typ": "dpop+jwt", "alg": "HS256", "jwk": hmac.members}, {"jti": "x"}),
        "longer than a proof can be": proof(token, extra="x" * 8000),
    }
    made = {name: proof(token, **change) for name, change in claims_of_proofs.items()}
    made |= {name: proof(token, header=change) for name, change in headers_of_proofs.items()}
    made |= texts
    small = RsaKey("a small key", "PS256", 1024)
    small_token, _ = token_for("bound to a small key", jkt=small.thumbprint)
    return [
        refused("no proof for a token bound to a key", token, "proof_required"),
        refused("proof of another key", token, "other_key", **sent(proof(token, OTHER))),
        refused("proof with a token that is bound to nothing", plain, "not_bound_to_key",
                **sent(proof(plain))),
        refused("wrong proof with a token that is bound to nothing", plain, "invalid_proof",
                **sent(proof(plain, htm="GET"))),
        refused("proof by an RSA key of 1,024 bits", small_token, "invalid_proof",
                **sent(proof(small_token, small))),
        *(refused(f"proof {name}", token, "invalid_proof", **sent(text)) for name, text in made.items()),
    ]


def certificates() -> list[Json]:
    token, payload = token_for("bound to a certificate", x5t=thumbprint(CERTIFICATE))
    plain = claims("bound to nothing, with a certificate")
    empty, _ = token_for("bound to an empty thumbprint", x5t="")
    return [
        valid("its certificate", token, payload, **shown(CERTIFICATE)),
        valid("certificate with a token that is bound to nothing", signed(plain), plain,
              **shown(CERTIFICATE)),
        refused("no certificate", token, "certificate_required"),
        refused("another certificate", token, "other_certificate", **shown(OTHER_CERTIFICATE)),
        refused("certificate with an empty thumbprint", empty, "other_certificate", **shown(CERTIFICATE)),
        refused("proof in place of the certificate", token, "not_bound_to_key", **sent(proof(token))),
    ]


def both() -> list[Json]:
    token, payload = token_for("bound to both", jkt=SENDER.thumbprint, x5t=thumbprint(CERTIFICATE))
    right = sent(proof(token))
    return [
        valid("both", token, payload, **right, **shown(CERTIFICATE)),
        refused("the proof alone", token, "certificate_required", **right),
        refused("the certificate alone", token, "proof_required", **shown(CERTIFICATE)),
        refused("neither", token, "proof_required", "certificate_required"),
        refused("the proof with another certificate", token, "other_certificate", **right,
                **shown(OTHER_CERTIFICATE)),
    ]

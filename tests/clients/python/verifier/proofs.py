"""What the sender of a token proved to have: a key (DPoP, RFC 9449) or a client certificate (RFC 8705)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from .jose import Json, decode, normal, parse_object, public_key, sha256
from .refused import Refused

MAX_LENGTH = 8 * 1024
MAX_AGE = 70
MAX_AHEAD = 10
ALGORITHMS = frozenset({"ES256", "ES384", "EdDSA", "PS256", "RS256"})
URL = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[^:/?#@%\[\]]+)(:(?P<port>[0-9]*))?"
                 r"(?P<path>/[^?#]*)?([?#].*)?", re.IGNORECASE)
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class DpopProof:
    """The value of the header `DPoP`, and the request that it must be for.

    `url` is the URL as the client sees it: what the service is configured with, and never the header `Host`.
    Refuse a request with two such headers.
    """

    proof: str
    method: str
    url: str


@dataclass(frozen=True)
class Sender:
    """What came with the token: the client certificate of the connection in DER, and a DPoP proof.

    A proof counts only with `Authorization: DPoP`. A verifier does not remember proofs: within 70 s one can
    be used again for the same request and token.
    """

    certificate: bytes | None = None
    dpop: DpopProof | None = None


def require(bound: Mapping[str, str], token: str, sender: Sender, now: int) -> None:
    """Refuses a sender that did not prove to have all that the token is bound to."""
    key = None if sender.dpop is None else _proven_key(sender.dpop, token, now)
    wanted = bound.get("jkt")
    if wanted is not None and key is None:
        raise Refused("proof_required")
    if wanted is None and key is not None:
        # The client wanted the token to be bound (RFC 9449, section 7.1).
        raise Refused("not_bound_to_key")
    if wanted != key:
        raise Refused("other_key")
    wanted = bound.get("x5t#S256")
    if wanted is not None and sender.certificate is None:
        raise Refused("certificate_required")
    if wanted is not None and wanted != sha256(sender.certificate):
        raise Refused("other_certificate")


def _proven_key(sent: DpopProof, token: str, now: int) -> str:
    """The thumbprint of the key that signed the proof."""
    try:
        return _check(sent, token, now)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("invalid_proof", str(error)) from None


def _check(sent: DpopProof, token: str, now: int) -> str:
    if len(sent.proof) > MAX_LENGTH or not sent.proof.isascii():
        raise ValueError("the proof is too long")
    head, payload, signature = sent.proof.split(".")
    header, claims = parse_object(decode(head)), parse_object(decode(payload))
    algorithm = normal(header["alg"])
    typ = header["typ"].lower().removeprefix("application/")
    if typ != "dpop+jwt" or {"crit", "b64"} & header.keys() or algorithm not in ALGORITHMS:
        raise ValueError("the header is not that of a proof")
    if not isinstance(header["jwk"], dict):
        raise ValueError("the key is no object")
    key = public_key(header["jwk"], algorithm)
    if not key.verifies(f"{head}.{payload}".encode(), decode(signature)):
        raise ValueError("the signature is wrong")
    if not 1 <= len(_text(claims, "jti")) <= 256:
        raise ValueError("jti has another length")
    if _text(claims, "htm") != sent.method:
        raise ValueError("htm is another method")
    if normal_url(_text(claims, "htu")) != normal_url(sent.url):
        raise ValueError("htu is another URL")
    _check_times(claims, now)
    if not compare_digest(_text(claims, "ath").encode(), sha256(token.encode()).encode()):
        raise ValueError("ath is the hash of another token")
    return key.thumbprint


def _check_times(claims: Json, now: int) -> None:
    times = {name: _number(claims[name]) for name in ("iat", "nbf", "exp") if name in claims}
    if max(times["iat"], times.get("nbf", 0)) > now + MAX_AHEAD:
        raise ValueError("the proof is from the future")
    if times["iat"] + MAX_AGE <= now or times.get("exp", now + 1) <= now:
        raise ValueError("the proof is too old")


def _text(claims: Json, name: str) -> str:
    if not isinstance(claims[name], str):
        raise ValueError(f"{name} is no text")
    return claims[name]


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise ValueError("a time is no number")
    return value


def normal_url(url: str) -> str:
    """The URL without query and fragment, in one spelling (RFC 3986, sections 6.2.2 and 6.2.3)."""
    parts = URL.fullmatch(url)
    if parts is None or not re.fullmatch(r"[!#-;=?-\[\]_a-z~]*", url, re.IGNORECASE):
        raise ValueError("not the URL of a request")
    scheme = parts["scheme"].lower()
    port = int(parts["port"] or PORTS[scheme])
    authority = parts["host"].lower() + ("" if port == PORTS[scheme] else f":{port}")
    path = re.sub(r"%(.{0,2})", _normal_encoding, parts["path"] or "/")
    return f"{scheme}://{authority}{_without_dot_segments(path)}"


def _normal_encoding(match: re.Match[str]) -> str:
    """A character that needs no encoding has none; the others have upper-case digits."""
    if not re.fullmatch("[0-9A-Fa-f]{2}", match[1]):
        raise ValueError("a percent sign starts no encoding")
    character = chr(int(match[1], 16))
    return character if re.fullmatch(r"[A-Za-z0-9._~-]", character) else f"%{match[1].upper()}"


def _without_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path[1:].split("/")
    for segment in segments:
        if segment == "..":
            kept[-1:] = []
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)

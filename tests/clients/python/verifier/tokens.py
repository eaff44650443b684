"""Access tokens (RFC 9068): their form, signature, claims and times."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .jose import Json, PublicKey, decode, parse_object, public_key
from .refused import Refused

MAX_LENGTH = 6 * 1024
# How far ahead the clock of the server may be.
MAX_AHEAD = 60
ALGORITHMS = frozenset({"ES256", "EdDSA", "PS256", "RS256"})


@dataclass(frozen=True)
class Parent:
    """What a token rests on: the client that it was issued to, or in an exchanged token one of several."""

    subject: str
    client_id: str
    epochs: tuple[int, int, int]
    token_id: str | None = None
    key_id: str | None = None


@dataclass(frozen=True)
class Verified:
    """The claims of a verified token."""

    tenant: str
    application: str
    client_id: str
    token_id: str
    scopes: tuple[str, ...]
    roles: tuple[str, ...]
    audiences: tuple[str, ...]
    issued_at: int
    expires_at: int
    key_id: str
    # What the token is bound to: `jkt`, `x5t#S256`.
    bound: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[Parent, ...] = ()

    def has_scopes(self, *scopes: str) -> bool:
        return set(scopes) <= set(self.scopes)


def parse_keys(jwks: bytes) -> dict[str, PublicKey]:
    """The keys of a set, by `kid`. Those of a newer server that are not known here are skipped."""
    keys = {}
    for jwk in parse_object(jwks)["keys"]:
        try:
            if jwk["alg"] in ALGORITHMS:
                keys[jwk["kid"]] = public_key(jwk, jwk["alg"])
        except (KeyError, TypeError, ValueError):
            continue
    return keys


def read(token: str, keys: Mapping[str, PublicKey], issuer: str, now: int) -> Verified:
    """Verifies all of a token except its audience, what it is bound to, and revocation."""
    parts = token.split(".")
    if len(token) > MAX_LENGTH or len(parts) != 3 or not token.isascii():
        raise Refused("malformed")
    try:
        header = parse_object(decode(parts[0]))
        payload, signature = decode(parts[1]), decode(parts[2])
    except ValueError as error:
        raise Refused("malformed", str(error)) from None
    key_id, key = _named(header, keys)
    message = token[: token.rindex(".")].encode()
    if not key.verifies(message, signature):
        raise Refused("bad_signature")
    try:
        claims = parse_object(payload)
        verified = _claims(claims, key_id)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("malformed", str(error)) from None
    if claims["iss"] != issuer:
        raise Refused("wrong_issuer")
    check_time(verified, now)
    return verified


def check_time(token: Verified, now: int) -> None:
    if token.expires_at <= now:
        raise Refused("expired")
    if token.issued_at > now + MAX_AHEAD:
        raise Refused("not_yet_valid")


def _named(header: Json, keys: Mapping[str, PublicKey]) -> tuple[str, PublicKey]:
    """The key that the header names. Keys and addresses in the header (`jwk`, `jku`) do not count."""
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
        raise Refused("malformed")
    if header.get("typ") != "at+jwt" or "crit" in header:
        raise Refused("wrong_type")
    key = keys.get(key_id) if key_id else None
    if key is None:
        raise Refused("unknown_key")
    if key.algorithm != algorithm:
        raise Refused("bad_signature")
    return key_id, key


def _claims(claims: Json, key_id: str) -> Verified:
    subject, client_id = _text(claims["sub"]), _text(claims["client_id"])
    audience = claims["aud"]
    audiences = [audience] if isinstance(audience, str) else _texts(audience)
    _text(claims["iss"])
    return Verified(
        tenant=_text(claims["tenant"]),
        application=subject,
        client_id=client_id,
        token_id=_text(claims["jti"]),
        scopes=tuple(_text(claims["scope"]).split()),
        roles=tuple(_texts(claims.get("roles", []))),
        audiences=tuple(audiences),
        issued_at=_number(claims["iat"]),
        expires_at=_number(claims["exp"]),
        key_id=key_id,
        bound=_bound(claims.get("cnf")),
        parents=_parents(claims, subject, client_id, key_id),
    )


def _parents(claims: Json, subject: str, client_id: str, key_id: str) -> tuple[Parent, ...]:
    """All that the token rests on, itself included."""
    if not isinstance(claims.get("act", {}), dict):
        raise ValueError("act is no object")
    own = Parent(subject, client_id, (0, 0, 0), claims["jti"], key_id)
    if "parents" not in claims:
        return (Parent(subject, client_id, _epochs(claims["epochs"]), own.token_id, key_id),)
    chain = [_parent(element) for element in claims["parents"]]
    if claims.get("epochs") is not None or len(chain) < 2:
        raise ValueError("parents in place of epochs")
    if chain[0].subject != subject or chain[-1].client_id != client_id:
        raise ValueError("parents of another token")
    last = chain[-1]
    holder = Parent(last.subject, last.client_id, last.epochs, own.token_id, key_id)
    return (*chain, holder)


def _parent(element: Json) -> Parent:
    known = {"sub", "client_id", "epochs", "jti", "kid", "actor"}
    if not isinstance(element, dict) or element.keys() - known:
        raise ValueError("a parent has a member that is not known")
    ids = [None if element.get(name) is None else _text(element[name]) for name in ("jti", "kid")]
    return Parent(_text(element["sub"]), _text(element["client_id"]), _epochs(element["epochs"]), *ids)


def _bound(cnf: Any) -> Mapping[str, str]:
    """A member that is not known cannot be checked."""
    if cnf is None:
        return {}
    if not isinstance(cnf, dict) or cnf.keys() - {"jkt", "x5t#S256"}:
        raise ValueError("cnf has a member that is not known")
    return {name: _text(value) for name, value in cnf.items()}


def _epochs(value: Any) -> tuple[int, int, int]:
    tenant, application, credential = (_number(epoch) for epoch in value)
    return tenant, application, credential


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a claim is no text")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("a claim is no list")
    return [_text(element) for element in value]


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a claim is no whole number")
    return value

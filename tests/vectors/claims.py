"""The tokens of the vectors before they are signed."""

import hashlib
from typing import Any

from signing import EcKey, Ed25519Key, Json, Key, RsaKey

NOW = 1_798_761_600  # 2027-01-01T00:00:00Z
ISSUER = "https://id.example"
AUDIENCE = "https://api.example"
TENANT = "acme"
LIFETIME = 900

KEYS: dict[str, Key] = {
    "ES256": EcKey("signing key"),
    "EdDSA": Ed25519Key("signing key"),
    "PS256": RsaKey("signing key for PS256", "PS256"),
    "RS256": RsaKey("signing key for RS256", "RS256"),
    # Revoked, and still in a key set that was read before.
    "revoked": EcKey("revoked signing key"),
}


def identifier(name: str) -> str:
    """An id of 32 hexadecimal digits, as Keyward makes them."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def application(name: str, tenant: str = TENANT) -> str:
    return f"tenants/{tenant}/applications/{name}"


def claims(token: str, **changes: Any) -> Json:
    """The claims of a good token, with changes. A change to `...` removes the claim."""
    name = changes.pop("application", "crm")
    tenant = changes.get("tenant", TENANT)
    all_claims = {
        "iss": ISSUER,
        "sub": application(name, tenant),
        "aud": AUDIENCE,
        "client_id": identifier(f"client of {name}"),
        "iat": NOW - 60,
        "exp": NOW - 60 + LIFETIME,
        "jti": identifier(token),
        "scope": "calls.read calls.write",
        "tenant": tenant,
        "epochs": [3, 5, 7],
    } | changes
    return {name: value for name, value in all_claims.items() if value is not ...}


def parent(name: str, **changes: Any) -> Json:
    """An element of `parents`."""
    element = {
        "sub": application(name),
        "client_id": identifier(f"client of {name}"),
        "epochs": [3, 5, 7],
    } | changes
    return {name: value for name, value in element.items() if value is not ...}


def exchanged(token: str, parents: list[Json] | None = None, **changes: Any) -> Json:
    """The claims of an exchanged token: of the application `crm`, which `gateway` exchanged."""
    first = parent("crm", jti=identifier(f"parent of {token}"), kid=KEYS["ES256"].kid)
    all_parents = parents or [first, parent("gateway")]
    changed = {"epochs": ..., "parents": all_parents} | changes
    return claims(token, client_id=all_parents[-1]["client_id"], **changed)


def header(key: Key, **changes: Any) -> Json:
    all_members = {"alg": key.algorithm, "kid": key.kid, "typ": "at+jwt"} | changes
    return {name: value for name, value in all_members.items() if value is not ...}


def signed(payload: Any, by: str = "ES256", **changes: Any) -> str:
    """A token, signed by one of the published keys. Changes are of the header."""
    key = KEYS[by]
    return key.signed(header(key, **changes), payload)


def valid(name: str, token: str, payload: Json, **presented: Any) -> Json:
    """A vector of a good token, with what a verifier must find in it."""
    found = {
        "tenant": payload["tenant"],
        "application": payload["sub"],
        "client_id": payload["client_id"],
        "token_id": payload["jti"],
        "expires_at": payload["exp"],
        "scopes": payload["scope"].split(),
        "roles": payload.get("roles", []),
    }
    return {"name": name, "token": token, "valid": True, "claims": found} | presented


def refused(name: str, token: str, *reasons: str, **presented: Any) -> Json:
    """A vector of a token that is refused for one of these reasons."""
    return {"name": name, "token": token, "valid": False, "reasons": list(reasons)} | presented

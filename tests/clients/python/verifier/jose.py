"""Signatures and keys: the part of RFC 7515 and 7517 that tokens and proofs need."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

Json = dict[str, Any]
Check = Callable[[bytes, bytes], None]

# The members of a key that are its thumbprint (RFC 7638), in order.
MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
RSA_BITS = range(2048, 8193)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def decode(text: str) -> bytes:
    """base64url without padding. Each value has one form only."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("not base64url")
    return data


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parse_object(data: bytes) -> Json:
    """A JSON object with unique members."""

    def unique(pairs: list[tuple[str, Any]]) -> Json:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a member is repeated")
        return members

    value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def sha256(data: bytes) -> str:
    """The SHA-256 hash in base64url."""
    return encode(hashlib.sha256(data).digest())


@dataclass(frozen=True)
class PublicKey:
    """A key for one algorithm."""

    algorithm: str
    thumbprint: str
    _check: Check

    def verifies(self, message: bytes, signature: bytes) -> bool:
        try:
            self._check(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def public_key(jwk: Json, algorithm: str) -> PublicKey:
    """A key for this algorithm. ValueError: the key is invalid, or for something else."""
    if PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("the key has private members")
    if jwk.get("use", "sig") != "sig" or normal(jwk.get("alg", algorithm)) != algorithm:
        raise ValueError("the key is for something else")
    kty = jwk.get("kty")
    if kty not in MEMBERS:
        raise ValueError("the type of the key is not known")
    members = {name: jwk.get(name) for name in MEMBERS[kty]}
    if not all(isinstance(value, str) for value in members.values()):
        raise ValueError("a member of the key is missing")
    thumbprint = sha256(json.dumps(members, separators=(",", ":")).encode())
    return PublicKey(algorithm, thumbprint, _check(members, algorithm))


def normal(algorithm: Any) -> Any:
    """RFC 9864 has a new name for Ed25519."""
    return "EdDSA" if algorithm == "Ed25519" else algorithm


def _check(members: dict[str, str], algorithm: str) -> Check:
    kty, curve = members["kty"], members.get("crv")
    if (algorithm, kty, curve) == ("ES256", "EC", "P-256"):
        return _ecdsa(members, ec.SECP256R1(), hashes.SHA256(), 32)
    if (algorithm, kty, curve) == ("ES384", "EC", "P-384"):
        return _ecdsa(members, ec.SECP384R1(), hashes.SHA384(), 48)
    if (algorithm, kty, curve) == ("EdDSA", "OKP", "Ed25519"):
        return ed25519.Ed25519PublicKey.from_public_bytes(decode(members["x"])).verify
    if algorithm in ("PS256", "RS256") and kty == "RSA":
        n, e = (int.from_bytes(decode(members[name]), "big") for name in ("n", "e"))
        if n.bit_length() not in RSA_BITS or e.bit_length() > 32:
            raise ValueError("the RSA key has another size")
        key = rsa.RSAPublicNumbers(e, n).public_key()
        scheme = PSS if algorithm == "PS256" else padding.PKCS1v15()
        return lambda signature, message: key.verify(signature, message, scheme, hashes.SHA256())
    raise ValueError("the key is for another algorithm")


def _ecdsa(
    members: dict[str, str], curve: ec.EllipticCurve, hash_: hashes.HashAlgorithm, size: int
) -> Check:
    x, y = decode(members["x"]), decode(members["y"])
    if (len(x), len(y)) != (size, size):
        raise ValueError("not a point of this curve")
    point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
    key, scheme = point.public_key(), ec.ECDSA(hash_)

    def check(signature: bytes, message: bytes) -> None:
        if len(signature) != 2 * size:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        key.verify(encode_dss_signature(r, s), message, scheme)

    return check

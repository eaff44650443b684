"""Keys and signatures that are the same in each run, so that a change of the vectors can be read."""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Json = dict[str, Any]
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encoded(value: Any) -> str:
    """A part of a token: JSON, or text that is no JSON."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return b64(text.encode())


def number(data: int, length: int | None = None) -> bytes:
    return data.to_bytes(length or (data.bit_length() + 7) // 8, "big")


def stream(seed: str, length: int) -> bytes:
    """Bytes that depend on the seed alone."""
    blocks = (hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(length // 32 + 1))
    return b"".join(blocks)[:length]


class Key:
    """A signing key with its public JWK."""

    algorithm: str

    def __init__(self, members: Json, algorithm: str) -> None:
        self.algorithm = algorithm
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
        self.thumbprint = b64(hashlib.sha256(canonical.encode()).digest())
        self.members = members
        self.kid = self.thumbprint

    def published(self) -> Json:
        return {"kid": self.kid, "alg": self.algorithm, "use": "sig"} | self.members

    def sign(self, message: bytes) -> bytes:
        raise NotImplementedError

    def signed(self, header: Json, payload: Any) -> str:
        message = f"{encoded(header)}.{encoded(payload)}"
        return f"{message}.{b64(self.sign(message.encode()))}"


class EcKey(Key):
    CURVES = {
        "ES256": ("P-256", ec.SECP256R1(), hashes.SHA256(), 32),
        "ES384": ("P-384", ec.SECP384R1(), hashes.SHA384(), 48),
    }

    def __init__(self, seed: str, algorithm: str = "ES256") -> None:
        name, curve, self.hash, self.size = self.CURVES[algorithm]
        secret = int.from_bytes(stream(seed, self.size), "big") >> 1
        self.private = ec.derive_private_key(secret, curve)
        point = self.private.public_key().public_numbers()
        x, y = b64(number(point.x, self.size)), b64(number(point.y, self.size))
        super().__init__({"kty": "EC", "crv": name, "x": x, "y": y}, algorithm)

    def der(self, message: bytes) -> bytes:
        return self.private.sign(message, ec.ECDSA(self.hash, deterministic_signing=True))

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.der(message))
        return number(r, self.size) + number(s, self.size)


class Ed25519Key(Key):
    def __init__(self, seed: str) -> None:
        self.private = ed25519.Ed25519PrivateKey.from_private_bytes(stream(seed, 32))
        x = b64(self.private.public_key().public_bytes_raw())
        super().__init__({"kty": "OKP", "crv": "Ed25519", "x": x}, "EdDSA")

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)


class RsaKey(Key):
    """Signs by RFC 8017 itself, because libraries choose the salt of PS256 at random."""

    def __init__(self, seed: str, algorithm: str, bits: int = 2048) -> None:
        p, q = (prime(f"{seed} {name}", bits // 2) for name in "pq")
        self.n, self.size = p * q, bits // 8
        self.d = pow(65537, -1, (p - 1) * (q - 1))
        members = {"kty": "RSA", "n": b64(number(self.n)), "e": "AQAB"}
        super().__init__(members, algorithm)

    def sign(self, message: bytes) -> bytes:
        digest = hashlib.sha256(message).digest()
        block = self.pss(digest) if self.algorithm == "PS256" else self.pkcs1(digest)
        return number(pow(int.from_bytes(block, "big"), self.d, self.n), self.size)

    def pkcs1(self, digest: bytes) -> bytes:
        """EMSA-PKCS1-v1_5, section 9.2."""
        info = SHA256_PREFIX + digest
        return b"\0\1" + b"\xff" * (self.size - len(info) - 3) + b"\0" + info

    def pss(self, digest: bytes) -> bytes:
        """EMSA-PSS with SHA-256 and a salt of 32 bytes, section 9.1.1."""
        salt = stream("salt", 32)
        hashed = hashlib.sha256(bytes(8) + digest + salt).digest()
        block = bytes(self.size - 66) + b"\1" + salt
        mask = b"".join(
            hashlib.sha256(hashed + number(n, 4)).digest() for n in range(len(block) // 32 + 1)
        )
        masked = bytearray(a ^ b for a, b in zip(block, mask))
        masked[0] &= 0x7F
        return bytes(masked) + hashed + b"\xbc"


class HmacKey(Key):
    """A forger's: its secret is something that everyone knows."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        super().__init__({"kty": "oct", "k": b64(secret)}, "HS256")

    def sign(self, message: bytes) -> bytes:
        return hmac.digest(self.secret, message, "sha256")


def prime(seed: str, bits: int) -> int:
    """The first number from here on that passes Miller and Rabin's test."""
    candidate = int.from_bytes(stream(seed, bits // 8), "big")
    candidate |= 3 << (bits - 2) | 1
    small = [p for p in range(3, 2000, 2) if all(p % q for q in range(3, p, 2))]
    while any(candidate % p == 0 for p in small) or not passes(candidate):
        candidate += 2
    return candidate


def passes(n: int) -> bool:
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        if all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return n % 65537 != 1

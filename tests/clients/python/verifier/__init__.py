"""Verifies access tokens of Keyward offline: in microseconds, with revocations. See README.md."""

from .proofs import DpopProof, Sender
from .refused import Refused
from .tokens import Verified
from .verifier import Verifier

__all__ = ["DpopProof", "Refused", "Sender", "Verified", "Verifier"]

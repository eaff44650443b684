"""The verifier."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from . import proofs, tokens
from .follower import Follower, Server
from .jose import PublicKey
from .proofs import Sender
from .refused import Refused
from .revocations import Feed, RevocationList
from .tokens import Verified

BEARER_ALONE = Sender()


@dataclass
class Verifier:
    """Verifies access tokens without a call for each.

    `follow` starts to follow a server; until then, and while its data is older than `max_lag`, good tokens
    are refused with `not_ready` or `feed_lost`. A revocation that Keyward has acknowledged takes effect within
    `max_lag` seconds.
    """

    issuer: str
    audience: str
    max_lag: float = 5.0
    api_key_prefix: str = "kwk"
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.max_lag < 2:
            raise ValueError("max_lag must be at least 2 s")
        self.keys: dict[str, PublicKey] = {}
        self.feed = Feed(RevocationList())
        self._follower: Follower | None = None

    def follow(
        self,
        target: str,
        client_id: str,
        client_secret: str,
        tls: grpc.ChannelCredentials | None = None,
        ready_within: float = 30,
    ) -> None:
        """Connects, and waits until keys and revocations are read."""
        server = Server(target, client_id, client_secret, tls)
        self._follower = Follower(server, self.feed, self.take_keys)
        self._follower.start()
        with self._follower.changed:
            if not self._follower.changed.wait_for(self._is_ready, ready_within):
                raise TimeoutError(f"the verifier was not ready within {ready_within} s")

    def close(self) -> None:
        if self._follower is not None:
            self._follower.stop()

    def take_keys(self, jwks: bytes) -> None:
        """Replaces the key set as a whole."""
        self.keys = tokens.parse_keys(jwks)

    def lag(self) -> float | None:
        """The age of the revocation data in seconds. None: it was never read."""
        confirmed = self.feed.confirmed
        return None if confirmed is None else self.monotonic() - confirmed

    def verify(self, token: str, sender: Sender = BEARER_ALONE) -> Verified:
        """Verifies a token, and that the sender has what it is bound to. Raises `Refused`."""
        if token.startswith(f"{self.api_key_prefix}_"):
            # Only Keyward can verify it: call AccessService.CheckAccess.
            raise Refused("api_key")
        if not self.keys:
            raise Refused("not_ready")
        now = int(self.clock())
        try:
            verified = tokens.read(token, self.keys, self.issuer, now)
        except Refused as refused:
            # The key may have been published since.
            if refused.reason == "unknown_key" and self._is_lost(self.lag()):
                raise Refused("feed_lost") from None
            raise
        if self.audience not in verified.audiences:
            raise Refused("wrong_audience")
        proofs.require(verified.bound, token, sender, now)
        self._require_unrevoked(verified)
        return verified

    def recheck(self, token: Verified) -> None:
        """Checks expiry and revocation of a verified token again, for long requests such as streams."""
        tokens.check_time(token, int(self.clock()))
        if token.key_id not in self.keys:
            raise Refused("unknown_key")
        self._require_unrevoked(token)

    def _require_unrevoked(self, token: Verified) -> None:
        # Read before the list, so that the list is at least as recent.
        lag = self.lag()
        if self.feed.revocations.revokes(token):
            raise Refused("revoked")
        if lag is None:
            raise Refused("not_ready")
        if self._is_lost(lag):
            raise Refused("feed_lost", f"revocations of the last {lag:.0f} s are unknown: retry")

    def _is_lost(self, lag: float | None) -> bool:
        return lag is not None and lag > self.max_lag

    def _is_ready(self) -> bool:
        return bool(self.keys) and self.feed.confirmed is not None

"""Why a token is refused."""

# Reasons that say something about the verifier and nothing about the token: the client may try again.
TEMPORARY = frozenset({"feed_lost", "not_ready"})


class Refused(Exception):
    """The token is refused. `reason` is one of those that tests/vectors/README.md lists."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason

    @property
    def is_temporary(self) -> bool:
        """Whether to answer 503 (UNAVAILABLE) in place of 401 (UNAUTHENTICATED)."""
        return self.reason in TEMPORARY

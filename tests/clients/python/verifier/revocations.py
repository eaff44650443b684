"""The list of revocations, and how the messages of `WatchRevocations` change it."""

from dataclasses import dataclass, field

from .tokens import Verified

# An entry is kept for an hour after its end: servers and clocks can be behind.
MARGIN = 3600

# What an entry revokes, by the claim of a token: `token_id`, `client_id`, `subject`, `tenant`, `key_id`.
Subject = tuple[str, str]


class FeedError(Exception):
    """A message that cannot be followed. It is never skipped: the list would have a gap."""


@dataclass(frozen=True)
class Revocation:
    number: int
    subject: Subject
    # Tokens with a lower epoch are revoked. 0 for a single token or a key.
    epoch: int
    expires_at: float


@dataclass
class RevocationList:
    """The revocations in force. Entries with the same subject are one, with the higher epoch."""

    _in_force: dict[Subject, tuple[int, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._in_force)

    def add(self, entry: Revocation) -> None:
        epoch, end = self._in_force.get(entry.subject, (0, 0.0))
        self._in_force[entry.subject] = max(epoch, entry.epoch), max(end, entry.expires_at)

    def forget(self, now: float) -> None:
        gone = [key for key, (_, end) in self._in_force.items() if end + MARGIN <= now]
        for key in gone:
            del self._in_force[key]

    def revokes(self, token: Verified) -> bool:
        """Whether the token, or one of those that it rests on, is revoked."""
        return any(
            self.is_below("tenant", token.tenant, parent.epochs[0])
            or self.is_below("subject", parent.subject, parent.epochs[1])
            or self.is_below("client_id", parent.client_id, parent.epochs[2])
            or ("token_id", parent.token_id) in self._in_force
            or ("key_id", parent.key_id) in self._in_force
            for parent in token.parents
        )

    def is_below(self, kind: str, name: str, epoch: int) -> bool:
        """Whether tokens with this epoch of a tenant, subject or client are revoked."""
        return epoch < self._in_force.get((kind, name), (0, 0.0))[0]


@dataclass
class Feed:
    """The position in the list. A snapshot takes effect when it is complete, and removes nothing."""

    revocations: RevocationList
    cursor: str = ""
    # The time as of which the list is complete, on the monotonic clock. None: it was never read.
    confirmed: float | None = None
    _snapshot: list[Revocation] | None = None
    # The number of the last entry. None: entries can be missing before the next one.
    _last: int | None = None

    def begin(self) -> None:
        """A new stream: an incomplete snapshot is discarded."""
        self._snapshot = None

    def lose(self) -> None:
        """The next stream starts with a snapshot. What is in force stays in force."""
        self.cursor = ""

    def take(
        self,
        entries: list[Revocation],
        cursor: str,
        is_snapshot: bool,
        complete_as_of: float | None,
    ) -> None:
        """Applies a message. `complete_as_of` is unset if more messages follow at once."""
        if is_snapshot:
            self._snapshot = [*(self._snapshot or []), *entries]
            return
        if self._snapshot is not None:
            for entry in self._snapshot:
                self.revocations.add(entry)
            # Another server can know less than the one before.
            self._snapshot, self._last, self.confirmed = None, None, None
        elif not self.cursor:
            raise FeedError("the first message is not a snapshot")
        last = self._last
        for entry in entries:
            if last is not None and entry.number > last + 1:
                raise FeedError(f"entry {entry.number} does not continue entry {last}")
            last = max(last or 0, entry.number)
        for entry in entries:
            self.revocations.add(entry)
        self._last = last
        self.cursor = cursor
        if complete_as_of is not None:
            self.confirmed = max(self.confirmed or complete_as_of, complete_as_of)

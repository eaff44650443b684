"""Stories of a verifier's feed: messages of `WatchRevocations`, and what the verifier must know after them."""

from typing import Any

from claims import Json

END = 3600


def entry(number: int, tenant: str, end: int = END) -> Json:
    return {"number": number, "tenant": tenant, "epoch": 1, "revoke_time": 0, "expire_time": end}


def message(*entries: Json, snapshot: bool = False, cursor: str = "c", sent: int = 10,
            staleness: int | None = 1, now: int = 0) -> Json:
    """A message that was sent at `sent`, and is applied at `now`."""
    content = {"revocations": list(entries), "cursor": cursor, "snapshot": snapshot}
    if staleness is not None:
        content["staleness"] = staleness
    return {"step": "message", "sent": sent, "now": now, "message": content}


def refused(step: Json) -> Json:
    return step | {"step": "refused_message"}


def snapshot(*entries: Json, **changes: Any) -> Json:
    return message(*entries, snapshot=True, **changes)


def expect(revoked: str = "", kept: str = "", cursor: str = "c", complete_as_of: int | None = 9) -> Json:
    return {"step": "expect", "revoked": revoked.split(), "not_revoked": kept.split(), "cursor": cursor,
            "complete_as_of": complete_as_of}


BEGIN: Json = {"step": "begin"}
LOSE: Json = {"step": "lose"}


def stories() -> list[Json]:
    listed = {
        "nothing is known before the first message": [
            BEGIN, expect(kept="a", cursor="", complete_as_of=None)],
        "a snapshot counts when it is complete": [
            BEGIN, snapshot(entry(1, "a")), expect(kept="a", cursor="", complete_as_of=None),
            snapshot(entry(4, "b")), message(), expect("a b")],
        "the message that ends a snapshot can have entries": [
            BEGIN, snapshot(entry(1, "a")), message(entry(2, "b")), expect("a b")],
        "a snapshot that was cut off is discarded": [
            BEGIN, snapshot(entry(1, "a")), BEGIN, snapshot(entry(2, "b")), message(),
            expect("b", kept="a")],
        "an empty snapshot is complete": [BEGIN, snapshot(), message(), expect(kept="a")],
        "a second snapshot removes nothing": [
            BEGIN, snapshot(entry(1, "a"), entry(2, "b")), message(), LOSE, BEGIN,
            snapshot(entry(1, "c")), message(cursor="d"), expect("a b c", cursor="d")],
        "after a lost place a stream must start with a snapshot": [
            BEGIN, snapshot(entry(1, "a")), message(), LOSE, BEGIN, expect("a", cursor=""),
            refused(message(entry(2, "b"), sent=20)), expect("a", kept="b", cursor="")],
        "the first message of all must be a snapshot": [
            BEGIN, refused(message(entry(1, "a"))), expect(kept="a", cursor="", complete_as_of=None)],
        "changes follow without a gap": [
            BEGIN, snapshot(), message(entry(1, "a")), message(entry(2, "b"), entry(3, "c")),
            refused(message(entry(5, "d"), cursor="e", sent=20)), expect("a b c", kept="d")],
        "expired entries can be missing behind a snapshot": [
            BEGIN, snapshot(entry(1, "a"), entry(5, "b")), message(), message(entry(8, "c")),
            refused(message(entry(10, "d"), sent=20)), expect("a b c", kept="d")],
        "entries can arrive twice": [
            BEGIN, snapshot(), message(entry(1, "a"), entry(2, "b")), BEGIN,
            message(entry(2, "b"), entry(3, "c"), cursor="d"), expect("a b c", cursor="d")],
        "a stream continues from its cursor without a snapshot": [
            BEGIN, snapshot(entry(1, "a")), message(), BEGIN, expect("a"),
            message(cursor="d", sent=20), expect("a", cursor="d", complete_as_of=19)],
        "numbers can start lower in another list": [
            BEGIN, snapshot(entry(7, "a")), message(entry(8, "b")), LOSE, BEGIN, snapshot(entry(2, "c")),
            message(entry(3, "d")), expect("a b c d")],
        "a message without staleness confirms nothing": [
            BEGIN, snapshot(staleness=None), message(entry(1, "a"), sent=20), expect("a", complete_as_of=19),
            message(entry(2, "b"), sent=30, staleness=None), expect("a b", complete_as_of=19),
            message(sent=31), expect("a b", complete_as_of=30)],
        "what is known never gets older by a message": [
            BEGIN, snapshot(), message(sent=20), message(sent=21, staleness=5),
            expect(kept="a", complete_as_of=19)],
        "another list can be older": [
            BEGIN, snapshot(entry(1, "a")), message(sent=20), LOSE, BEGIN, snapshot(sent=22, staleness=5),
            message(sent=22, staleness=5), expect("a", complete_as_of=17)],
        "an entry of an unknown kind ends the stream": [
            BEGIN, snapshot(entry(1, "a")), message(),
            refused(message({"number": 2, "epoch": 1, "revoke_time": 0, "expire_time": END}, sent=20)),
            expect("a")],
        "an entry without an end ends the stream": [
            BEGIN, refused(snapshot({"number": 1, "tenant": "a", "epoch": 1, "revoke_time": 0})),
            expect(kept="a", cursor="", complete_as_of=None)],
        "an entry without a number ends the stream": [
            BEGIN, refused(snapshot(entry(0, "a"))), expect(kept="a", cursor="", complete_as_of=None)],
        "an entry is kept for an hour after its end": [
            BEGIN, snapshot(entry(1, "a"), entry(2, "b", END + 1)), message(now=END + 3599), expect("a b"),
            message(now=END + 3600), expect("b", kept="a")],
    }
    return [{"name": name, "steps": steps} for name, steps in listed.items()]

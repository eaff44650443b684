"""The offline verifier with the vectors of tests/vectors."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from verifier import DpopProof, Refused, Sender, Verifier
from keyward.access.v1.revocation_pb2 import WatchRevocationsResponse
from verifier.follower import take
from verifier.revocations import Feed, FeedError, Revocation, RevocationList

FOLDER = Path(__file__).resolve().parents[2] / "vectors"
CONTEXT = json.loads((FOLDER / "context.json").read_text())
SUBJECTS = ("token_id", "client_id", "subject", "tenant", "key_id")


def vectors() -> list[Any]:
    return [
        pytest.param(vector, id=f"{file.stem}: {vector['name']}")
        for file in sorted(FOLDER.glob("*.json"))
        if file.stem not in ("context", "feed")
        for vector in json.loads(file.read_text())["vectors"]
    ]


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    made = Verifier(
        CONTEXT["issuer"], CONTEXT["audience"], clock=lambda: CONTEXT["now"], monotonic=lambda: 0
    )
    made.take_keys(json.dumps(CONTEXT["jwks"]).encode())
    entries = [revocation(entry) for entry in CONTEXT["revocations"]]
    made.feed.take(entries, "", True, None)
    made.feed.take([], "cursor", False, 0)
    return made


def revocation(entry: dict[str, Any]) -> Revocation:
    (kind,) = entry.keys() & set(SUBJECTS)
    return Revocation(entry["number"], (kind, entry[kind]), entry["epoch"], entry["expire_time"])


def sender(vector: dict[str, Any]) -> Sender:
    certificate, dpop = vector.get("certificate"), vector.get("dpop")
    return Sender(
        certificate=None if certificate is None else base64.b64decode(certificate),
        dpop=None if dpop is None else DpopProof(**dpop),
    )


def message(content: dict[str, Any]) -> WatchRevocationsResponse:
    """A message as the server sends it, whose times are numbers in the stories."""
    made = WatchRevocationsResponse(cursor=content["cursor"], snapshot=content["snapshot"])
    if "staleness" in content:
        made.staleness.seconds = content["staleness"]
        made.staleness.SetInParent()
    for entry in content["revocations"]:
        times = {name: {"seconds": entry[name]} for name in entry.keys() & {"revoke_time", "expire_time"}}
        made.revocations.add(**entry | times)
    return made


def stories() -> list[Any]:
    found = json.loads((FOLDER / "feed.json").read_text())["stories"]
    return [pytest.param(story["steps"], id=story["name"]) for story in found]


@pytest.mark.parametrize("steps", stories())
def test_story_of_the_feed(steps: list[dict[str, Any]]) -> None:
    feed = Feed(RevocationList())
    for step in steps:
        if step["step"] == "begin":
            feed.begin()
        elif step["step"] == "lose":
            feed.lose()
        elif step["step"] == "message":
            take(feed, message(step["message"]), step["sent"])
            feed.revocations.forget(step["now"])
        elif step["step"] == "refused_message":
            with pytest.raises(FeedError):
                take(feed, message(step["message"]), step["sent"])
        else:
            tenants = [*step["revoked"], *step["not_revoked"]]
            revoked = [tenant for tenant in tenants if feed.revocations.is_below("tenant", tenant, 0)]
            assert revoked == step["revoked"]
            assert (feed.cursor, feed.confirmed) == (step["cursor"], step["complete_as_of"])


@pytest.mark.parametrize("vector", vectors())
def test_vector(verifier: Verifier, vector: dict[str, Any]) -> None:
    try:
        token = verifier.verify(vector["token"], sender(vector))
    except Refused as refused:
        assert not vector["valid"], refused
        assert refused.reason in vector["reasons"]
        return
    assert vector["valid"], f"accepted, and not refused with {vector['reasons']}"
    for name, value in vector["claims"].items():
        found = getattr(token, name)
        assert (list(found) if isinstance(found, tuple) else found) == value, name

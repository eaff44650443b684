"""Tokens that are revoked, one by each level, and their neighbours that are not."""

from claims import (
    KEYS, NOW, Json, application, claims, exchanged, identifier, parent, refused, signed, valid,
)

# What each entry revokes: the member, its value, and the epoch.
ENTRIES = [
    ("token_id", identifier("revoked by itself"), 0),
    ("client_id", identifier("client of rotated"), 8),
    ("subject", application("disabled"), 6),
    ("tenant", "closed", 4),
    ("key_id", KEYS["revoked"].kid, 0),
    ("token_id", identifier("revoked parent"), 0),
    # Twice: the higher epoch counts, in whichever order they come.
    ("subject", application("twice"), 9),
    ("subject", application("twice"), 6),
]


def revocations() -> list[Json]:
    times = {"revoke_time": NOW - 30, "expire_time": NOW + 3570}
    return [
        {"number": number, member: value, "epoch": epoch} | times
        for number, (member, value, epoch) in enumerate(ENTRIES, start=1)
    ]


def vectors() -> list[Json]:
    def gone(name: str, payload: Json, by: str = "ES256") -> Json:
        return refused(name, signed(payload, by), "revoked")

    def kept(name: str, payload: Json) -> Json:
        return valid(name, signed(payload), payload)

    by_revoked_key = parent("crm", jti=identifier("by a revoked key"), kid=KEYS["revoked"].kid)
    revoked_parent = parent("crm", jti=identifier("revoked parent"), kid=KEYS["ES256"].kid)
    actor = parent("disabled", actor=True)
    crm, gateway = parent("crm", jti=identifier("subject")), parent("gateway")
    closed = [parent(name, sub=application(name, "closed")) for name in ("crm", "gateway")]
    return [
        gone("the token itself", claims("revoked by itself")),
        gone("its credential", claims("a", application="rotated")),
        gone("its application", claims("b", application="disabled")),
        gone("its tenant", claims("c", tenant="closed")),
        gone("the key that signed it", claims("d"), "revoked"),
        gone("the higher of two epochs", claims("e", application="twice", epochs=[3, 8, 7])),
        gone("epochs of zero", claims("f", application="disabled", epochs=[0, 0, 0])),
        gone("parent: the token that was exchanged", exchanged("g", [revoked_parent, gateway])),
        gone("parent: its key", exchanged("h", [by_revoked_key, gateway])),
        gone("parent: its application", exchanged("i", [parent("disabled"), gateway],
                                                  sub=application("disabled"))),
        gone("parent: its credential", exchanged("j", [parent("rotated"), gateway],
                                                 sub=application("rotated"))),
        gone("parent: the exchanging client", exchanged("k", [crm, parent("rotated")])),
        gone("parent: its tenant", exchanged("l", closed, tenant="closed")),
        gone("parent: the actor", exchanged("m", [crm, actor, gateway])),
        gone("exchanged token itself", exchanged("revoked by itself")),
        kept("newer epoch of the credential", claims("n", application="rotated", epochs=[3, 5, 8])),
        kept("newer epoch of the application", claims("o", application="disabled", epochs=[3, 6, 7])),
        kept("newer epoch of the tenant", claims("p", tenant="closed", epochs=[4, 5, 7])),
        kept("newest of two epochs", claims("q", application="twice", epochs=[3, 9, 7])),
        kept("epochs of another level", claims("r", epochs=[9, 0, 0])),
        kept("parent: newer epoch", exchanged("s", [crm, parent("rotated", epochs=[3, 5, 8])])),
    ]

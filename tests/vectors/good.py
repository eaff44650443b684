"""Tokens that every verifier accepts, and those that were good until now."""

from claims import AUDIENCE, KEYS, NOW, Json, application, claims, exchanged, identifier, parent, refused, signed, valid


def good() -> list[Json]:
    def kept(name: str, payload: Json, by: str = "ES256") -> Json:
        return valid(name, signed(payload, by), payload)

    crm, gateway = parent("crm", jti=identifier("subject"), kid=KEYS["ES256"].kid), parent("gateway")
    actor = parent("worker", actor=True)
    act = {"sub": application("worker"), "client_id": identifier("client of worker")}
    return [
        *(kept(f"signed with {name}", claims(f"good {name}"), name)
          for name in ("ES256", "EdDSA", "PS256", "RS256")),
        kept("one of several audiences", claims("a", aud=["https://other.example", AUDIENCE])),
        kept("a list of one audience", claims("b", aud=[AUDIENCE])),
        kept("with roles", claims("c", roles=["agent", "supervisor"])),
        kept("without a scope", claims("d", scope="")),
        kept("with claims of its tenant", claims("e", region="eu", https_claim={"a": [1, None, "ü"]})),
        kept("ends in a second", claims("f", exp=NOW + 1)),
        kept("issued a minute ahead", claims("g", iat=NOW + 60, exp=NOW + 960)),
        kept("of another tenant", claims("h", tenant="globex")),
        kept("exchanged", exchanged("i", [crm, gateway])),
        kept("exchanged for an API key", exchanged("j", [parent("crm"), gateway])),
        kept("exchanged twice", exchanged("k", [crm, gateway, parent("billing")])),
        kept("exchanged with an actor", exchanged("l", [crm, actor, gateway], act=act)),
        kept("exchanged by itself", exchanged("m", [crm, parent("crm")])),
    ]


def expired() -> list[Json]:
    def gone(name: str, payload: Json) -> Json:
        return refused(name, signed(payload), "expired")

    return [
        gone("now", claims("a", exp=NOW)),
        gone("a second ago", claims("b", exp=NOW - 1)),
        gone("a year ago", claims("c", iat=NOW - 31_536_900, exp=NOW - 31_536_000)),
        gone("at the beginning of time", claims("d", iat=0, exp=0)),
        gone("before the beginning of time", claims("e", iat=-2, exp=-1)),
        gone("exchanged token", exchanged("f", exp=NOW)),
        gone("for another audience, too", claims("g", exp=NOW, aud="https://other.example")),
        gone("revoked, too", claims("h", exp=NOW, tenant="closed")),
    ]

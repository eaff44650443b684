"""Services in Python: they check requests, or follow the revocation list."""

import json
from typing import Any

import jwt
import pytest
from grpc import Channel
from keyward.access.v1.access_pb2 import (
    CheckAccessRequest,
    CheckAccessResponse,
    RequestedEndpoint,
    RequiredScopes,
)
from keyward.access.v1.access_pb2_grpc import AccessServiceStub
from keyward.access.v1.key_pb2 import WatchJwksRequest
from keyward.access.v1.key_pb2_grpc import KeyServiceStub
from keyward.access.v1.revocation_pb2 import (
    WatchRevocationsRequest,
    WatchRevocationsResponse,
)
from keyward.access.v1.revocation_pb2_grpc import RevocationServiceStub
from keyward.token.v1.token_pb2 import (
    ClientSecret,
    IssueTokenRequest,
    RevokeTokensRequest,
)
from keyward.token.v1.token_pb2_grpc import TokenServiceStub

from harness import SCOPES, Client, Metadata, Server

# Streams have no deadline, unlike other calls.
LONG = 60


class Revocations:
    """The state of a verifier, as the comment of RevocationService describes it."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.epochs: dict[tuple[str, str], int] = {}
        self.complete = False

    def apply(self, message: WatchRevocationsResponse) -> None:
        for revocation in message.revocations:
            kind = revocation.WhichOneof("revoked")
            value = getattr(revocation, kind)
            if kind == "token_id":
                self.tokens.add(value)
            else:
                known = self.epochs.get((kind, value), 0)
                self.epochs[kind, value] = max(known, revocation.epoch)
        self.complete = self.complete or not message.snapshot

    def revokes(self, claims: dict[str, Any]) -> bool:
        keys = [
            ("tenant", claims["tenant"]),
            ("subject", claims["sub"]),
            ("client_id", claims["client_id"]),
        ]
        older = [
            epoch < self.epochs.get(key, 0)
            for key, epoch in zip(keys, claims["epochs"], strict=True)
        ]
        return claims["jti"] in self.tokens or any(older)


@pytest.fixture
def token(channel: Channel, client: Client) -> str:
    pair = ClientSecret(client_id=client.client_id, client_secret=client.client_secret)
    request = IssueTokenRequest(client_secret=pair)
    return TokenServiceStub(channel).IssueToken(request).access_token


def check(channel: Channel, admin: Metadata, **question: Any) -> CheckAccessResponse:
    request = CheckAccessRequest(**question)
    return AccessServiceStub(channel).CheckAccess(request, metadata=admin)


def test_service_checks_a_request(
    channel: Channel, admin: Metadata, client: Client, token: str
) -> None:
    needed = RequiredScopes(all_of=[SCOPES[0]], any_of=SCOPES)
    answer = check(channel, admin, token=token, scopes=needed)
    assert answer.allowed and answer.outcome == CheckAccessResponse.OUTCOME_ALLOWED
    assert answer.principal.application == client.application
    assert answer.principal.credential == client.credential

    answer = check(
        channel, admin, token=token, scopes=RequiredScopes(all_of=["other"])
    )
    assert answer.outcome == CheckAccessResponse.OUTCOME_INSUFFICIENT_SCOPE
    assert list(answer.missing_scopes) == ["other"]

    endpoint = RequestedEndpoint(method="GET", path="/v1/../calls")
    answer = check(channel, admin, token=token, endpoint=endpoint)
    assert answer.outcome == CheckAccessResponse.OUTCOME_MALFORMED_PATH

    answer = check(channel, admin, token="x", scopes=needed)
    assert answer.outcome == CheckAccessResponse.OUTCOME_INVALID_TOKEN


def test_service_verifies_tokens_itself(
    server: Server,
    channel: Channel,
    admin: Metadata,
    tenant: str,
    client: Client,
    token: str,
) -> None:
    keys = next(KeyServiceStub(channel).WatchJwks(WatchJwksRequest(), timeout=LONG))
    key = jwt.PyJWKSet.from_dict(json.loads(keys.jwks)).keys[0]
    claims = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=tenant,
        issuer=server.issuer,
    )
    watch = RevocationServiceStub(channel).WatchRevocations(
        WatchRevocationsRequest(), metadata=admin, timeout=LONG
    )
    revocations = Revocations()
    while not revocations.complete:
        message = next(watch)
        revocations.apply(message)
    assert not revocations.revokes(claims)
    assert message.staleness.ToTimedelta().total_seconds() < 5

    request = RevokeTokensRequest(name=client.application, reason="a laptop was lost")
    TokenServiceStub(channel).RevokeTokens(request, metadata=admin)
    while not revocations.revokes(claims):
        revocations.apply(next(watch))
    watch.cancel()

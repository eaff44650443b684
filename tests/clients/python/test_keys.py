"""PyJWT's cached key set while signing keys change: a server for each test."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest
import requests
from keyward.admin.v1.signing_key_pb2 import (
    RevokeSigningKeyRequest,
    RotateSigningKeyRequest,
)
from keyward.admin.v1.signing_key_pb2_grpc import SigningKeyServiceStub

from harness import Server, serving


@pytest.fixture
def own(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Server]:
    with serving(pytestconfig.getoption("--binary"), tmp_path) as server:
        yield server


@pytest.fixture
def keys(own: Server) -> Iterator[SigningKeyServiceStub]:
    with grpc.insecure_channel(own.grpc) as channel:
        yield SigningKeyServiceStub(channel)


def exchange(server: Server) -> str:
    answer = requests.post(
        f"{server.http}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(server.client_id, server.client_secret),
        timeout=10,
    )
    answer.raise_for_status()
    return answer.json()["access_token"]


def verify(token: str, client: jwt.PyJWKClient) -> None:
    key = client.get_signing_key_from_jwt(token)
    jwt.decode(token, key, algorithms=[key.algorithm_name], audience="keyward")


def caller(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def test_default_client_has_the_next_key_before_it_signs(
    own: Server, keys: SigningKeyServiceStub
) -> None:
    token = exchange(own)
    made = keys.RotateSigningKey(
        RotateSigningKeyRequest(), metadata=caller(token)
    ).signing_key
    client = jwt.PyJWKClient(f"{own.http}/oauth2/jwks")
    kids = {key.key_id for key in client.get_signing_keys()}
    assert made.name.removeprefix("signingKeys/") in kids
    assert len(kids) == 2
    verify(exchange(own), client)


def test_next_key_replaces_a_revoked_one_without_another_fetch(
    own: Server, keys: SigningKeyServiceStub
) -> None:
    # The client reads the set again at an unknown kid, but not within 30 s.
    old = exchange(own)
    client = jwt.PyJWKClient(f"{own.http}/oauth2/jwks")
    verify(old, client)
    kid = jwt.get_unverified_header(old)["kid"]
    keys.RevokeSigningKey(
        RevokeSigningKeyRequest(name=f"signingKeys/{kid}"), metadata=caller(old)
    )
    new = exchange(own)
    assert jwt.get_unverified_header(new)["kid"] != kid
    verify(new, client)
    with pytest.raises(jwt.PyJWKClientError):
        verify(old, jwt.PyJWKClient(f"{own.http}/oauth2/jwks"))

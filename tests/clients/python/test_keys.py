"""PyJWT's cached key set while signing keys change: a server for each test."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest
import requests
from keyward.admin.v1.signing_key_pb2 import (
    ListSigningKeysRequest,
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


def test_default_client_follows_the_revocation_of_the_active_key(
    own: Server, keys: SigningKeyServiceStub
) -> None:
    client = jwt.PyJWKClient(f"{own.http}/oauth2/jwks")
    old = exchange(own)
    verify(old, client)
    listed = keys.ListSigningKeys(ListSigningKeysRequest(), metadata=caller(old))
    keys.RevokeSigningKey(
        RevokeSigningKeyRequest(name=listed.signing_keys[0].name), metadata=caller(old)
    )
    # Its cache is five minutes old at most; an unknown kid makes it read the set again.
    verify(exchange(own), client)
    with pytest.raises(jwt.PyJWKClientError):
        verify(old, client)

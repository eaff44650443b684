"""PyJWT, which finds the keys in the server's metadata."""

import base64
import time
from typing import Any

import jwt
import pytest
import requests

from harness import SCOPES, Client, Server


@pytest.fixture
def token(discovered: dict[str, str], client: Client) -> str:
    answer = requests.post(
        discovered["token_endpoint"],
        data={"grant_type": "client_credentials"},
        auth=(client.client_id, client.client_secret),
        timeout=10,
    )
    answer.raise_for_status()
    return answer.json()["access_token"]


def verify(token: str, discovered: dict[str, str], audience: str) -> dict[str, Any]:
    """Header, payload and signature of a valid token."""
    key = jwt.PyJWKClient(discovered["jwks_uri"]).get_signing_key_from_jwt(token)
    return jwt.decode_complete(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=audience,
        issuer=discovered["issuer"],
    )


def introspect(
    token: str, discovered: dict[str, str], client: Client
) -> requests.Response:
    return requests.post(
        discovered["introspection_endpoint"],
        data={"token": token},
        auth=(client.client_id, client.client_secret),
        timeout=10,
    )


def with_flipped_bit(token: str) -> str:
    """The token with another id: it is well-formed, only its signature is wrong."""
    header, payload, signature = token.split(".")
    claims = bytearray(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims[claims.index(b'"jti":"') + len(b'"jti":"')] ^= 1
    payload = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


def test_metadata_has_the_configured_issuer(
    server: Server, discovered: dict[str, str]
) -> None:
    assert discovered["issuer"] == server.issuer


def test_published_key_verifies_an_rfc_9068_access_token(
    discovered: dict[str, str], tenant: str, token: str
) -> None:
    assert verify(token, discovered, tenant)["header"]["typ"] == "at+jwt"


def test_claims_of_an_access_token(
    server: Server, discovered: dict[str, str], tenant: str, client: Client, token: str
) -> None:
    claims = verify(token, discovered, tenant)["payload"]
    assert claims["iss"] == server.issuer
    assert claims["aud"] == tenant
    assert claims["sub"] == client.application
    assert claims["client_id"] == client.client_id
    assert claims["scope"] == " ".join(SCOPES)
    assert f"tenants/{claims['tenant']}" == tenant
    assert time.time() - 60 < claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + 900
    assert claims["jti"]


def test_token_is_accepted_only_for_its_audience(
    discovered: dict[str, str], token: str
) -> None:
    with pytest.raises(jwt.InvalidAudienceError):
        verify(token, discovered, "tenants/other")


def test_flipped_bit_breaks_the_signature(
    discovered: dict[str, str], tenant: str, token: str
) -> None:
    with pytest.raises(jwt.InvalidSignatureError):
        verify(with_flipped_bit(token), discovered, tenant)


def test_introspection_returns_the_claims_of_a_valid_token(
    discovered: dict[str, str], tenant: str, client: Client, token: str
) -> None:
    claims = verify(token, discovered, tenant)["payload"]
    found = introspect(token, discovered, client).json()
    assert found.pop("active") is True
    assert found.pop("token_type") == "Bearer"
    assert found == {name: claims[name] for name in found}
    assert claims.keys() - found.keys() == {"epochs"}


def test_introspection_of_an_altered_token_is_inactive(
    discovered: dict[str, str], client: Client, token: str
) -> None:
    answer = introspect(with_flipped_bit(token), discovered, client)
    assert answer.status_code == 200
    assert answer.content == b'{"active":false}'

"""Clients with a key in place of a secret (`private_key_jwt`), by Authlib and PyJWT."""

import time
import uuid

import authlib.integrations.requests_client as authlib_requests
import grpc
import jwt
import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from keyward.admin.v1.credential_pb2 import CreateCredentialRequest, Credential
from keyward.admin.v1.credential_pb2_grpc import CredentialServiceStub

from harness import SCOPES, Client, Metadata

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEYS = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


class KeyClient:
    """A credential of the kind `public_key`, with its private key."""

    def __init__(
        self, algorithm: str, application: str, channel: grpc.Channel, admin: Metadata
    ) -> None:
        key = KEYS[algorithm]()
        self.algorithm = algorithm
        self.private = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode()
        public = key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        made = CredentialServiceStub(channel).CreateCredential(
            CreateCredentialRequest(
                parent=application,
                credential=Credential(
                    kind=Credential.KIND_PUBLIC_KEY,
                    public_key=Credential.PublicKey(pem=public.decode()),
                ),
            ),
            metadata=admin,
        )
        assert made.secret == ""
        self.client_id = made.credential.client_id

    def session(self, audience: str) -> authlib_requests.OAuth2Session:
        """Authlib takes the audience under the name `token_endpoint`."""
        method = PrivateKeyJWT(token_endpoint=audience, alg=self.algorithm)
        return authlib_requests.OAuth2Session(
            self.client_id,
            self.private,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            default_timeout=10,
        )


# Authlib's PrivateKeyJWT reads RSA keys only.
@pytest.fixture(params=["PS256", "RS256"])
def key_client(
    request: pytest.FixtureRequest,
    channel: grpc.Channel,
    admin: Metadata,
    client: Client,
) -> KeyClient:
    return KeyClient(request.param, client.application, channel, admin)


def test_authlib_signs_for_a_token_and_revokes_it(
    key_client: KeyClient, discovered: dict[str, str]
) -> None:
    assert "private_key_jwt" in discovered["token_endpoint_auth_methods_supported"]
    algorithms = discovered["token_endpoint_auth_signing_alg_values_supported"]
    assert key_client.algorithm in algorithms
    with key_client.session(discovered["issuer"]) as session:
        for _ in range(2):
            token = session.fetch_token(
                discovered["token_endpoint"], grant_type="client_credentials"
            )
            assert token["token_type"] == "Bearer"
            assert token["scope"].split(" ") == SCOPES
        answers = [
            session.introspect_token(
                discovered["introspection_endpoint"], token["access_token"]
            ).json(),
            session.revoke_token(
                discovered["revocation_endpoint"], token["access_token"]
            ).json(),
            session.introspect_token(
                discovered["introspection_endpoint"], token["access_token"]
            ).json(),
        ]
    assert answers[0]["active"] is True
    assert answers[0]["client_id"] == key_client.client_id
    assert answers[1:] == [{}, {"active": False}]


def test_assertion_for_the_token_endpoint_is_refused(
    channel: grpc.Channel, admin: Metadata, client: Client, discovered: dict[str, str]
) -> None:
    key_client = KeyClient("RS256", client.application, channel, admin)
    with key_client.session(discovered["token_endpoint"]) as session:
        with pytest.raises(OAuthError) as refused:
            session.fetch_token(
                discovered["token_endpoint"], grant_type="client_credentials"
            )
    assert refused.value.error == "invalid_client"


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_assertion_of_pyjwt_is_accepted_once(
    algorithm: str,
    channel: grpc.Channel,
    admin: Metadata,
    client: Client,
    discovered: dict[str, str],
) -> None:
    key_client = KeyClient(algorithm, client.application, channel, admin)
    now = int(time.time())
    claims = {
        "iss": key_client.client_id,
        "sub": key_client.client_id,
        "aud": discovered["issuer"],
        "iat": now,
        "exp": now + 60,
        "jti": uuid.uuid4().hex,
    }
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jwt.encode(claims, key_client.private, algorithm),
    }
    answers = [
        requests.post(discovered["token_endpoint"], data=form, timeout=10)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 401]
    assert answers[0].json()["token_type"] == "Bearer"
    assert answers[1].json()["error"] == "invalid_client"

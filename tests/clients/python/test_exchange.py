"""Token exchange with google-auth, whose STS client is for any server (RFC 8693)."""

import grpc
import jwt
import pytest
from google.auth.exceptions import OAuthError
from google.auth.transport.requests import Request
from google.oauth2.sts import Client as StsClient
from google.oauth2.utils import ClientAuthentication, ClientAuthType
from google.protobuf.field_mask_pb2 import FieldMask
from keyward.admin.v1.application_pb2 import (
    Application,
    CreateApplicationRequest,
    UpdateApplicationRequest,
)
from keyward.admin.v1.application_pb2_grpc import ApplicationServiceStub
from keyward.admin.v1.credential_pb2 import CreateCredentialRequest, Credential
from keyward.admin.v1.credential_pb2_grpc import CredentialServiceStub
from keyward.token.v1.token_pb2 import IssueTokenRequest
from keyward.token.v1.token_pb2_grpc import TokenServiceStub

from harness import SCOPES, Client, Metadata

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
API_KEY = "urn:keyward:params:oauth:token-type:api_key"
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"


@pytest.fixture
def exchanger(
    channel: grpc.Channel, admin: Metadata, client: Client, tenant: str
) -> Client:
    """An application without scopes that may exchange tokens for its tenant's audience."""
    applications = ApplicationServiceStub(channel)
    request = UpdateApplicationRequest(
        application=Application(
            name=client.application, scopes=[], exchange_audiences=[tenant]
        ),
        update_mask=FieldMask(paths=["scopes", "exchange_audiences"]),
    )
    applications.UpdateApplication(request, metadata=admin)
    return client


@pytest.fixture
def key(channel: grpc.Channel, admin: Metadata, tenant: str) -> str:
    """The API key of another application."""
    application = ApplicationServiceStub(channel).CreateApplication(
        CreateApplicationRequest(
            parent=tenant, application=Application(display_name="CRM", scopes=SCOPES)
        ),
        metadata=admin,
    )
    request = CreateCredentialRequest(
        parent=application.application.name,
        credential=Credential(kind=Credential.KIND_API_KEY),
    )
    made = CredentialServiceStub(channel).CreateCredential(request, metadata=admin)
    return made.secret


@pytest.fixture(params=[ClientAuthType.basic, ClientAuthType.request_body])
def sts(
    request: pytest.FixtureRequest, discovered: dict[str, str], exchanger: Client
) -> StsClient:
    assert GRANT in discovered["grant_types_supported"]
    authentication = ClientAuthentication(
        request.param, exchanger.client_id, exchanger.client_secret
    )
    return StsClient(discovered["token_endpoint"], authentication)


def claims(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


def test_access_token_is_exchanged(
    sts: StsClient, channel: grpc.Channel, key: str, exchanger: Client, tenant: str
) -> None:
    subject = (
        TokenServiceStub(channel)
        .IssueToken(IssueTokenRequest(api_key=key))
        .access_token
    )
    answer = sts.exchange_token(
        Request(),
        grant_type=GRANT,
        subject_token=subject,
        subject_token_type=ACCESS_TOKEN,
        audience=tenant,
        scopes=SCOPES[:1],
        requested_token_type=ACCESS_TOKEN,
    )
    assert answer["issued_token_type"] == ACCESS_TOKEN
    assert answer["token_type"] == "Bearer"
    assert answer["scope"] == SCOPES[0]
    assert 0 < answer["expires_in"] <= 900
    child, parent = claims(answer["access_token"]), claims(subject)
    assert child["sub"] == parent["sub"]
    assert child["client_id"] == exchanger.client_id
    assert child["exp"] <= parent["exp"]


def test_api_key_is_exchanged_for_an_actor(
    sts: StsClient, key: str, exchanger: Client
) -> None:
    answer = sts.exchange_token(
        Request(),
        grant_type=GRANT,
        subject_token=key,
        subject_token_type=API_KEY,
        actor_token=key,
        actor_token_type=API_KEY,
    )
    assert answer["scope"].split() == SCOPES
    assert claims(answer["access_token"])["act"]["sub"] != exchanger.application


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"audience": "https://other.example"}, "invalid_target"),
        ({"scopes": ["calls.delete"]}, "invalid_scope"),
        ({"subject_token_type": ACCESS_TOKEN}, "invalid_request"),
        ({"subject_token": "kwk_unknown"}, "invalid_request"),
    ],
)
def test_error_is_reported(
    sts: StsClient, key: str, change: dict[str, object], error: str
) -> None:
    wanted = {"subject_token": key, "subject_token_type": API_KEY} | change
    with pytest.raises(OAuthError, match=error):
        sts.exchange_token(Request(), grant_type=GRANT, **wanted)

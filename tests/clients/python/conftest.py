"""One server for the whole run; a tenant on it, and a new client for each test."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests
from keyward.admin.v1.application_pb2 import Application, CreateApplicationRequest
from keyward.admin.v1.application_pb2_grpc import ApplicationServiceStub
from keyward.admin.v1.credential_pb2 import CreateCredentialRequest, Credential
from keyward.admin.v1.credential_pb2_grpc import CredentialServiceStub
from keyward.admin.v1.scope_pb2 import Scope
from keyward.admin.v1.tenant_pb2 import (
    ApplyProfileRequest,
    CreateTenantRequest,
    Profile,
    Tenant,
)
from keyward.admin.v1.tenant_pb2_grpc import TenantServiceStub
from keyward.token.v1.token_pb2 import (
    ClientSecret,
    IssueTokenRequest,
    IssueTokenResponse,
)
from keyward.token.v1.token_pb2_grpc import TokenServiceStub

from harness import SCOPES, Client, Metadata, Server, serving

# A default deadline for every call, as a channel's owner sets one.
SERVICE_CONFIG = json.dumps({"methodConfig": [{"name": [{}], "timeout": "10s"}]})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--binary", type=Path, required=True, help="the keyward to test")


@pytest.fixture(scope="session")
def server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(
        pytestconfig.getoption("--binary"), tmp_path_factory.mktemp("server")
    ) as server:
        yield server


@pytest.fixture(scope="session")
def channel(server: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.service_config", SERVICE_CONFIG)]
    with grpc.insecure_channel(server.grpc, options) as channel:
        yield channel


@pytest.fixture(scope="session")
def admin_token(server: Server, channel: grpc.Channel) -> IssueTokenResponse:
    request = IssueTokenRequest(
        client_secret=ClientSecret(
            client_id=server.client_id, client_secret=server.client_secret
        ),
        audiences=["keyward"],
    )
    return TokenServiceStub(channel).IssueToken(request)


@pytest.fixture(scope="session")
def admin(admin_token: IssueTokenResponse) -> Metadata:
    return (("authorization", f"Bearer {admin_token.access_token}"),)


@pytest.fixture(scope="session")
def tenant(channel: grpc.Channel, admin: Metadata) -> str:
    tenants = TenantServiceStub(channel)
    created = tenants.CreateTenant(
        CreateTenantRequest(tenant_id="acme", tenant=Tenant(display_name="Acme")),
        metadata=admin,
    )
    name = created.tenant.name
    profile = Profile(scopes=[Scope(name=scope) for scope in SCOPES])
    tenants.ApplyProfile(
        ApplyProfileRequest(name=name, profile=profile), metadata=admin
    )
    return name


@pytest.fixture
def client(channel: grpc.Channel, admin: Metadata, tenant: str) -> Client:
    application = (
        ApplicationServiceStub(channel)
        .CreateApplication(
            CreateApplicationRequest(
                parent=tenant,
                application=Application(display_name="Dialer", scopes=SCOPES),
            ),
            metadata=admin,
        )
        .application
    )
    made = CredentialServiceStub(channel).CreateCredential(
        CreateCredentialRequest(
            parent=application.name,
            credential=Credential(kind=Credential.KIND_CLIENT_SECRET),
        ),
        metadata=admin,
    )
    return Client(
        application=application.name,
        credential=made.credential.name,
        client_id=made.credential.client_id,
        client_secret=made.secret,
    )


@pytest.fixture(scope="session")
def discovered(server: Server) -> dict[str, str]:
    """The server's metadata; clients are configured only with the issuer."""
    answer = requests.get(
        f"{server.http}/.well-known/oauth-authorization-server", timeout=10
    )
    answer.raise_for_status()
    return answer.json()

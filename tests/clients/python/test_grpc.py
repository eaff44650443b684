"""grpcio, with stubs from its own tools."""

from collections.abc import Callable, Sequence

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import Channel, RpcError, StatusCode
from grpc_status import rpc_status
from keyward.admin.v1.application_pb2 import (
    Application,
    CreateApplicationRequest,
    DeleteApplicationRequest,
)
from keyward.admin.v1.application_pb2_grpc import ApplicationServiceStub
from keyward.admin.v1.audit_pb2 import AuditEvent, ListAuditEventsRequest
from keyward.admin.v1.audit_pb2_grpc import AuditServiceStub
from keyward.admin.v1.credential_pb2 import DeleteCredentialRequest
from keyward.admin.v1.credential_pb2_grpc import CredentialServiceStub
from keyward.admin.v1.role_pb2 import CreateRoleRequest, Role
from keyward.admin.v1.role_pb2_grpc import RoleServiceStub
from keyward.admin.v1.scope_pb2 import ListScopesRequest
from keyward.admin.v1.scope_pb2_grpc import ScopeServiceStub
from keyward.admin.v1.tenant_pb2 import ListTenantsRequest
from keyward.admin.v1.tenant_pb2_grpc import TenantServiceStub
from keyward.admin.v1.user_pb2 import CreateUserRequest, User
from keyward.admin.v1.user_pb2_grpc import UserServiceStub
from keyward.token.v1.token_pb2 import (
    ClientSecret,
    IntrospectTokenRequest,
    IssueTokenRequest,
    IssueTokenResponse,
)
from keyward.token.v1.token_pb2_grpc import TokenServiceStub

from harness import SCOPES, Client, Metadata, Server


def issue(
    channel: Channel,
    client: Client,
    scopes: Sequence[str] = (),
    audiences: Sequence[str] = (),
) -> IssueTokenResponse:
    pair = ClientSecret(client_id=client.client_id, client_secret=client.client_secret)
    return TokenServiceStub(channel).IssueToken(
        IssueTokenRequest(client_secret=pair, scopes=scopes, audiences=audiences)
    )


def failure(call: Callable[[], object]) -> tuple[StatusCode, ErrorInfo]:
    """The code and ErrorInfo of a call that must fail."""
    with pytest.raises(RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None, "the error has no details"
    infos = [detail for detail in status.details if detail.Is(ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = ErrorInfo()
    infos[0].Unpack(info)
    assert info.domain == "keyward"
    return caught.value.code(), info


def test_first_credential_gets_an_admin_token(
    admin_token: IssueTokenResponse,
) -> None:
    assert admin_token.token_type == "Bearer"
    assert admin_token.expires_in.ToTimedelta().total_seconds() == 900
    assert list(admin_token.scopes) == ["keyward.admin"]


def test_profile_creates_the_catalogue(
    channel: Channel, admin: Metadata, tenant: str
) -> None:
    listed = ScopeServiceStub(channel).ListScopes(
        ListScopesRequest(parent=tenant), metadata=admin
    )
    names = [scope.name for scope in listed.scopes]
    assert names == [f"{tenant}/scopes/{scope}" for scope in SCOPES]


def test_introspection_of_an_active_token_is_complete(
    channel: Channel, server: Server, admin: Metadata, tenant: str, client: Client
) -> None:
    token = issue(channel, client).access_token
    answer = TokenServiceStub(channel).IntrospectToken(
        IntrospectTokenRequest(token=token), metadata=admin
    )
    assert answer.active
    assert list(answer.scopes) == SCOPES
    assert answer.client_id == client.client_id
    assert answer.subject == client.application
    assert f"tenants/{answer.tenant}" == tenant
    assert list(answer.audiences) == [tenant]
    assert answer.issuer == server.issuer
    assert answer.expire_time.seconds - answer.issue_time.seconds == 900
    assert answer.token_id


def test_token_of_a_deleted_credential_is_inactive(
    channel: Channel, admin: Metadata, client: Client
) -> None:
    token = issue(channel, client).access_token
    CredentialServiceStub(channel).DeleteCredential(
        DeleteCredentialRequest(name=client.credential), metadata=admin
    )
    answer = TokenServiceStub(channel).IntrospectToken(
        IntrospectTokenRequest(token=token), metadata=admin
    )
    # A message with `active: false` and no other field is empty.
    assert answer.SerializeToString() == b""


def test_scope_of_another_client_is_refused(
    channel: Channel, client: Client
) -> None:
    code, info = failure(lambda: issue(channel, client, scopes=["calls.listen"]))
    assert (code, info.reason) == (StatusCode.INVALID_ARGUMENT, "SCOPE_NOT_ALLOWED")


def test_audience_of_another_tenant_is_refused(
    channel: Channel, client: Client
) -> None:
    code, info = failure(lambda: issue(channel, client, audiences=["tenants/other"]))
    assert (code, info.reason) == (StatusCode.INVALID_ARGUMENT, "AUDIENCE_NOT_ALLOWED")


def test_deleted_credential_is_an_invalid_client(
    channel: Channel, admin: Metadata, client: Client
) -> None:
    CredentialServiceStub(channel).DeleteCredential(
        DeleteCredentialRequest(name=client.credential), metadata=admin
    )
    code, info = failure(lambda: issue(channel, client))
    assert (code, info.reason) == (StatusCode.UNAUTHENTICATED, "INVALID_CLIENT")


def test_admin_call_without_a_token_is_unauthenticated(channel: Channel) -> None:
    tenants = TenantServiceStub(channel)
    code, info = failure(lambda: tenants.ListTenants(ListTenantsRequest()))
    assert (code, info.reason) == (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_admin_call_of_other_client_names_the_missing_scope(
    channel: Channel, client: Client
) -> None:
    token = issue(channel, client, audiences=["keyward"]).access_token
    bearer = (("authorization", f"Bearer {token}"),)
    tenants = TenantServiceStub(channel)
    code, info = failure(
        lambda: tenants.ListTenants(ListTenantsRequest(), metadata=bearer)
    )
    assert (code, info.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert dict(info.metadata) == {"scope": "keyward.admin"}


def test_user_is_limited_to_their_roles_and_attempts_are_logged(
    channel: Channel, admin: Metadata, tenant: str
) -> None:
    own = ["applications.create.own", "applications.view.own"]
    role = Role(permissions=own, scopes=SCOPES[:1])
    RoleServiceStub(channel).CreateRole(
        CreateRoleRequest(parent=tenant, role_id="maker", role=role), metadata=admin
    )
    user = UserServiceStub(channel).CreateUser(
        CreateUserRequest(parent=tenant, user_id="sam", user=User(roles=["maker"])),
        metadata=admin,
    )
    acting = (*admin, ("keyward-user", user.user.name))
    applications = ApplicationServiceStub(channel)

    def create(scopes: Sequence[str]) -> Application:
        wanted = Application(display_name="Sam's", scopes=scopes)
        request = CreateApplicationRequest(parent=tenant, application=wanted)
        return applications.CreateApplication(request, metadata=acting).application

    code, info = failure(lambda: create(SCOPES))
    assert (code, info.reason) == (StatusCode.INVALID_ARGUMENT, "SCOPE_NOT_ALLOWED")
    made = create(SCOPES[:1])
    assert made.owner == user.user.name
    assert list(made.effective_scopes) == SCOPES[:1]
    delete = DeleteApplicationRequest(name=made.name)
    code, info = failure(
        lambda: applications.DeleteApplication(delete, metadata=acting)
    )
    assert (code, info.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert dict(info.metadata) == {"permission": "applications.delete.own"}

    listed = AuditServiceStub(channel).ListAuditEvents(
        ListAuditEventsRequest(parent=tenant, actor=user.user.name, order_by="time"),
        metadata=admin,
    )
    refused, done = AuditEvent.OUTCOME_REFUSED, AuditEvent.OUTCOME_DONE
    assert [(event.action, event.outcome) for event in listed.events] == [
        ("CreateApplication", refused),
        ("CreateApplication", done),
        ("DeleteApplication", refused),
    ]

"""Discovery by clients: metadata, reflection, health, headers."""

import json

import grpc
import pytest
import requests
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oidc.discovery import OpenIDProviderMetadata
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import Channel, StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from keyward.access.v1.key_pb2 import GetJwksRequest
from keyward.access.v1.key_pb2_grpc import KeyServiceStub
from keyward.admin.v1.tenant_pb2 import ListTenantsRequest
from keyward.admin.v1.tenant_pb2_grpc import TenantServiceStub

from harness import Client, Metadata, Server

URLS = [
    "issuer",
    "token_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "jwks_uri",
]


def over_tls(document: dict[str, object]) -> dict[str, object]:
    """The metadata as a server behind TLS has it, which the RFC requires."""
    for name in URLS:
        document[name] = str(document[name]).replace("http://", "https://")
    return document


def test_authlib_accepts_the_metadata(discovered: dict[str, object]) -> None:
    AuthorizationServerMetadata(over_tls(dict(discovered))).validate()


def test_openid_configuration_has_required_claims(
    server: Server, discovered: dict[str, object]
) -> None:
    url = f"{server.http}/.well-known/openid-configuration"
    document = requests.get(url, timeout=10).json()
    assert document.items() >= discovered.items()
    metadata = OpenIDProviderMetadata(over_tls(document))
    metadata.validate_jwks_uri()
    metadata.validate_response_types_supported()
    metadata.validate_subject_types_supported()
    assert metadata["id_token_signing_alg_values_supported"] == ["ES256"]


@pytest.mark.parametrize("path", ["token", "introspect", "revoke"])
def test_wrong_secret_in_the_body_gets_a_challenge(
    path: str, server: Server, client: Client
) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": client.client_id,
        "client_secret": server.client_secret,
        "token": "x",
    }
    answer = requests.post(f"{server.http}/oauth2/{path}", data=form, timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_reflection_finds_services_and_error_details(channel: Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "keyward.token.v1.TokenService" in database.get_services()
    for symbol in ["keyward.token.v1.TokenService", "google.rpc.BadRequest"]:
        file = database.FindFileContainingSymbol(symbol)
        assert isinstance(file, FileDescriptorProto)
        assert symbol.startswith(file.package)


def test_every_service_has_a_health_status(channel: Channel) -> None:
    health = HealthStub(channel)
    for service in ["", "keyward.access.v1.AccessService", "grpc.health.v1.Health"]:
        answer = health.Check(HealthCheckRequest(service=service))
        assert answer.status == HealthCheckResponse.SERVING
    unknown = HealthCheckRequest(service="keyward.Unknown")
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(unknown)
    assert caught.value.code() == StatusCode.NOT_FOUND
    watch = health.Watch(unknown)
    assert next(watch).status == HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_channel_with_health_checks_gets_ready(server: Server) -> None:
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "keyward.access.v1.KeyService"},
    }
    options = [("grpc.service_config", json.dumps(config))]
    with grpc.insecure_channel(server.grpc, options) as channel:
        keys = KeyServiceStub(channel)
        answer = keys.GetJwks(GetJwksRequest(), wait_for_ready=True, timeout=20)
        assert json.loads(answer.jwks)["keys"]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip])
def test_compressed_request_is_accepted(
    compression: grpc.Compression, channel: Channel, admin: Metadata
) -> None:
    request = ListTenantsRequest(page_token="x" * 1000)
    with pytest.raises(grpc.RpcError) as caught:
        TenantServiceStub(channel).ListTenants(
            request, metadata=admin, compression=compression
        )
    assert caught.value.code() == StatusCode.INVALID_ARGUMENT
    assert "page_token" in caught.value.details()
    listed = TenantServiceStub(channel).ListTenants(
        ListTenantsRequest(page_size=1000), metadata=admin, compression=compression
    )
    assert listed.tenants

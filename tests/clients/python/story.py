"""A client in Python from its first call to its last: a console acts for a user, an integration gets tokens, a
service checks them. The same story is written in Go, Java and TypeScript. shared/with_servers.py starts it."""

import json
import os
from pathlib import Path
from typing import Any

import authlib.integrations.requests_client as authlib_requests
import grpc
import requests
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from keyward.access.v1.access_pb2 import CheckAccessRequest, CheckAccessResponse, RequiredScopes
from keyward.access.v1.access_pb2_grpc import AccessServiceStub
from keyward.access.v1.revocation_pb2 import WatchRevocationsRequest
from keyward.access.v1.revocation_pb2_grpc import RevocationServiceStub
from keyward.admin.v1.application_pb2 import Application, CreateApplicationRequest
from keyward.admin.v1.application_pb2_grpc import ApplicationServiceStub
from keyward.admin.v1.credential_pb2 import (
    CreateCredentialRequest,
    CreateCredentialResponse,
    Credential,
)
from keyward.admin.v1.credential_pb2_grpc import CredentialServiceStub
from keyward.admin.v1.policy_pb2 import Limits
from keyward.token.v1.token_pb2 import (
    ClientSecret,
    IntrospectTokenRequest,
    IssueTokenRequest,
    RevokeTokenRequest,
)
from keyward.token.v1.token_pb2_grpc import TokenServiceStub

Json = dict[str, Any]
Metadata = tuple[tuple[str, str], ...]


def connect(server: Json) -> grpc.Channel:
    """A channel with a deadline and retries for each call, by the service config of the repository."""
    file = Path(os.environ["KEYWARD_PROTOS"]) / "keyward_grpc_service_config.json"
    return grpc.insecure_channel(server["grpc"], [("grpc.service_config", file.read_text())])


def authorized(channel: grpc.Channel, client: Json) -> Metadata:
    """The metadata with a token of a client for Keyward itself."""
    secret = ClientSecret(client_id=client["client_id"], client_secret=client["client_secret"])
    issued = TokenServiceStub(channel).IssueToken(
        IssueTokenRequest(client_secret=secret, audiences=["keyward"])
    )
    return (("authorization", f"Bearer {issued.access_token}"),)


def create_application(channel: grpc.Channel, console: Metadata, server: Json) -> str:
    wanted = Application(
        display_name="Story in Python", scopes=server["scopes"][:1], limits=Limits(requests=3)
    )
    request = CreateApplicationRequest(parent=server["tenant"], application=wanted)
    created = ApplicationServiceStub(channel).CreateApplication(request, metadata=console).application
    assert created.owner == server["user"]
    return created.name


def create_credential(
    channel: grpc.Channel, console: Metadata, application: str, credential: Credential
) -> CreateCredentialResponse:
    request = CreateCredentialRequest(parent=application, credential=credential)
    return CredentialServiceStub(channel).CreateCredential(request, metadata=console)


def new_key() -> tuple[str, str]:
    """A key of the integration, in PEM. Keyward gets the public one only."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def fetch_token(issuer: str, client_id: str, secret: str, method: Any) -> str:
    """A token by Authlib, from the issuer alone."""
    found = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=10).json()
    with authlib_requests.OAuth2Session(
        client_id, secret, token_endpoint_auth_method=method, default_timeout=10
    ) as session:
        token = session.fetch_token(found["token_endpoint"], grant_type="client_credentials")
    return token["access_token"]


def check_until_limited(
    channel: grpc.Channel, service: Metadata, application: str, tokens: list[str]
) -> float:
    """Returns how many seconds to wait before the next request."""
    for number, token in enumerate(tokens):
        question = CheckAccessRequest(token=token, scopes=RequiredScopes(all_of=["calls.read"]))
        answer = AccessServiceStub(channel).CheckAccess(question, metadata=service)
        assert answer.principal.application == application
        assert answer.allowed == (number < 3), answer
        if answer.outcome == CheckAccessResponse.OUTCOME_RATE_LIMITED:
            return answer.retry_after.ToTimedelta().total_seconds()
    raise AssertionError("there was no limit")


def read_errors(channel: grpc.Channel, console: Metadata, server: Json) -> None:
    """The reason of an error, and the wrong fields."""
    wrong = Application(scopes=["no scope"], contact_email="no address")
    request = CreateApplicationRequest(parent=server["tenant"], application=wrong)
    try:
        ApplicationServiceStub(channel).CreateApplication(request, metadata=console)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        # With headers of its own, an error would not be retried (gRFC A6).
        assert not error.initial_metadata()
        details = rpc_status.from_call(error).details
    else:
        raise AssertionError("the application was created")
    info, fields = ErrorInfo(), BadRequest()
    for detail in details:
        detail.Unpack(info) or detail.Unpack(fields)
    assert (info.reason, info.domain) == ("INVALID_FIELD", "keyward")
    named = {violation.field for violation in fields.field_violations}
    assert {"application.display_name", "application.contact_email"} <= named


def follow_revocation(channel: grpc.Channel, service: Metadata, admin: Metadata, token: str) -> None:
    """Revokes a token, and waits until the feed has it."""
    tokens = TokenServiceStub(channel)
    known = tokens.IntrospectToken(IntrospectTokenRequest(token=token), metadata=service)
    assert known.active
    feed = RevocationServiceStub(channel).WatchRevocations(WatchRevocationsRequest(), metadata=service)
    assert tokens.RevokeToken(RevokeTokenRequest(token=token), metadata=admin).revoked
    for message in feed:
        if any(entry.token_id == known.token_id for entry in message.revocations):
            feed.cancel()
            return


def main() -> None:
    server = json.loads(Path(os.environ["KEYWARD_FIXTURE"]).read_text())["plain"]
    with connect(server) as channel:
        # The console acts for a user, who creates an application with a limit, a secret and a key.
        console = (*authorized(channel, server["console"]), ("keyward-user", server["user"]))
        application = create_application(channel, console, server)
        by_secret = Credential(kind=Credential.KIND_CLIENT_SECRET)
        secret = create_credential(channel, console, application, by_secret)
        private, public = new_key()
        by_key = Credential(
            kind=Credential.KIND_PUBLIC_KEY, public_key=Credential.PublicKey(pem=public)
        )
        key = create_credential(channel, console, application, by_key)

        # The integration knows the issuer. It gets a token with the secret, and another one with the key.
        issuer = server["issuer"]
        one = fetch_token(issuer, secret.credential.client_id, secret.secret, "client_secret_basic")
        # Authlib takes the audience under the name `token_endpoint`.
        assertion = PrivateKeyJWT(token_endpoint=issuer, alg="PS256")
        two = fetch_token(issuer, key.credential.client_id, private, assertion)

        # A service asks about each request, until the limit of the application is reached.
        service = authorized(channel, server["verifier"])
        wait = check_until_limited(channel, service, application, [one, two, one, two])
        # The window is a minute, which may pass in steps.
        assert 30 < wait < 90

        read_errors(channel, console, server)
        follow_revocation(channel, service, authorized(channel, server["admin"]), one)
    print("story: passed")


if __name__ == "__main__":
    main()

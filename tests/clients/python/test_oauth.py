"""Authlib and requests-oauthlib, each in both ways of client authentication."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import authlib.integrations.requests_client as authlib_requests
import pytest
import requests_oauthlib
from authlib.integrations.base_client import OAuthError
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests.auth import HTTPBasicAuth

from harness import SCOPES, Client, Server

Fetch = Callable[[str, Client, str | None], dict[str, Any]]


@pytest.fixture(autouse=True)
def plain_http_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allows http:// in requests-oauthlib."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def authlib_session(
    client: Client, method: str = "client_secret_basic", scope: str | None = None
) -> authlib_requests.OAuth2Session:
    return authlib_requests.OAuth2Session(
        client.client_id,
        client.client_secret,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        scope=scope,
        default_timeout=10,
    )


def authlib_basic(url: str, client: Client, scope: str | None) -> dict[str, Any]:
    with authlib_session(client, "client_secret_basic", scope) as session:
        return session.fetch_token(url, grant_type="client_credentials")


def authlib_post(url: str, client: Client, scope: str | None) -> dict[str, Any]:
    with authlib_session(client, "client_secret_post", scope) as session:
        return session.fetch_token(url, grant_type="client_credentials")


def oauthlib_basic(url: str, client: Client, scope: str | None) -> dict[str, Any]:
    backend = BackendApplicationClient(client.client_id, scope=scope)
    with requests_oauthlib.OAuth2Session(client=backend) as session:
        auth = HTTPBasicAuth(client.client_id, client.client_secret)
        return session.fetch_token(url, auth=auth, timeout=10)


def oauthlib_post(url: str, client: Client, scope: str | None) -> dict[str, Any]:
    backend = BackendApplicationClient(client.client_id, scope=scope)
    with requests_oauthlib.OAuth2Session(client=backend) as session:
        return session.fetch_token(
            url, client_secret=client.client_secret, include_client_id=True, timeout=10
        )


every_client = pytest.mark.parametrize(
    "fetch", [authlib_basic, authlib_post, oauthlib_basic, oauthlib_post]
)


def scopes(token: dict[str, Any]) -> list[str]:
    """The granted scopes, which oauthlib splits and Authlib does not."""
    scope = token["scope"]
    return scope.split(" ") if isinstance(scope, str) else scope


@every_client
def test_client_gets_a_bearer_token_for_15_minutes(
    fetch: Fetch, discovered: dict[str, str], client: Client
) -> None:
    token = fetch(discovered["token_endpoint"], client, None)
    assert token["access_token"]
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 900


@every_client
def test_token_has_all_scopes_by_default(
    fetch: Fetch, discovered: dict[str, str], client: Client
) -> None:
    token = fetch(discovered["token_endpoint"], client, None)
    assert scopes(token) == SCOPES


@every_client
def test_requested_scope_is_returned(
    fetch: Fetch, discovered: dict[str, str], client: Client
) -> None:
    token = fetch(discovered["token_endpoint"], client, "calls.write")
    assert scopes(token) == ["calls.write"]


@every_client
def test_unknown_scope_is_invalid_scope(
    fetch: Fetch, discovered: dict[str, str], client: Client
) -> None:
    with pytest.raises((OAuthError, OAuth2Error)) as caught:
        fetch(discovered["token_endpoint"], client, "calls.read calls.listen")
    assert caught.value.error == "invalid_scope"


@every_client
def test_wrong_secret_is_invalid_client(
    fetch: Fetch, server: Server, discovered: dict[str, str], client: Client
) -> None:
    # The well-formed secret of another client, so that it is really compared.
    wrong = replace(client, client_secret=server.client_secret)
    with pytest.raises((OAuthError, OAuth2Error)) as caught:
        fetch(discovered["token_endpoint"], wrong, None)
    assert caught.value.error == "invalid_client"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_token_revoked_by_authlib_is_inactive(
    method: str, discovered: dict[str, str], client: Client
) -> None:
    with authlib_session(client, method) as session:
        token = session.fetch_token(
            discovered["token_endpoint"], grant_type="client_credentials"
        )["access_token"]

        def introspect() -> dict[str, Any]:
            url = discovered["introspection_endpoint"]
            return session.introspect_token(url, token, "access_token").json()

        assert introspect()["active"] is True
        url = discovered["revocation_endpoint"]
        answer = session.revoke_token(url, token, "access_token")
        assert answer.status_code == 200
        # Some clients parse the body, although RFC 7009 does not define it.
        assert answer.json() == {}
        assert introspect() == {"active": False}

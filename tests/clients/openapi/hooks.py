"""What schemathesis cannot know: how clients authenticate, and which tokens exist.

It generates forms and headers from the schemas, most of which no client would send. So that requests get
beyond authentication, `before_call` gives each in turn the authentication of a real client, and puts real
values in place of some that were generated. The rest are sent as they are."""

import base64
import functools
import hashlib
import itertools
import json
import os
import time
from typing import Any
from urllib.parse import parse_qsl

import jwt
import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric import ec
from schemathesis import Case, CheckContext, HookContext, Response

SCENE = json.loads(os.environ["KEYWARD_TEST_SCENE"])
ISSUER = SCENE["issuer"]
TOKEN, INTROSPECT, REVOKE = "/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"
JWT = "application/token-introspection+jwt"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
API_KEY = "urn:keyward:params:oauth:token-type:api_key"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLIENT = ("client_id", "client_secret", "client_assertion", "client_assertion_type")

# Requests in turn: the same in each run, since there is one worker.
TURN = itertools.count()
# The ids of one-time tokens.
NUMBER = itertools.count()
PROOF_KEY = ec.generate_private_key(ec.SECP256R1())
# The ids of requests that must be answered with 200.
PREPARED: set[str] = set()

Form = dict[str, Any]
Headers = dict[str, str]


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def client_secret_basic(headers: Headers, form: Form) -> None:
    headers["Authorization"] = basic(SCENE["crm"]["id"], SCENE["crm"]["secret"])


def client_with_limits(headers: Headers, form: Form) -> None:
    headers["Authorization"] = basic(SCENE["limited"]["id"], SCENE["limited"]["secret"])


def api_key_as_user_name(headers: Headers, form: Form) -> None:
    headers["Authorization"] = basic(SCENE["api_key"]["secret"], "")


def client_secret_post(headers: Headers, form: Form) -> None:
    form["client_id"] = SCENE["crm"]["id"]
    form["client_secret"] = SCENE["crm"]["secret"]


def private_key_jwt(headers: Headers, form: Form) -> None:
    now = int(time.time())
    client_id = SCENE["signer"]["id"]
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": ISSUER,
        "iat": now,
        "exp": now + 60,
        "jti": f"assertion {next(NUMBER)}",
    }
    form["client_assertion"] = jwt.encode(claims, SCENE["private_key"], "ES256")
    form["client_assertion_type"] = ASSERTION_TYPE


def gateway(headers: Headers, form: Form) -> None:
    headers["Authorization"] = basic(SCENE["gateway"]["id"], SCENE["gateway"]["secret"])


def bearer_token(headers: Headers, form: Form) -> None:
    headers["Authorization"] = f"Bearer {issued(audience='keyward')}"


def bearer_api_key(headers: Headers, form: Form) -> None:
    headers["Authorization"] = f"Bearer {SCENE['api_key']['secret']}"


def wrong_secret(headers: Headers, form: Form) -> None:
    # Of another client: it has the form of a secret, so that the server must look.
    headers["Authorization"] = basic(SCENE["crm"]["id"], SCENE["gateway"]["secret"])


def wrong_token(headers: Headers, form: Form) -> None:
    headers["Authorization"] = f"Bearer {issued(audience='keyward')[:-1]}"


def token_without_proof(headers: Headers, form: Form) -> None:
    headers["Authorization"] = f"DPoP {issued(proof(TOKEN), audience='keyward')}"


def proof_without_nonce(headers: Headers, form: Form) -> None:
    headers["DPoP"] = proof(TOKEN, has_nonce=False)
    client_secret_basic(headers, form)


def token_with_used_proof(headers: Headers, form: Form) -> None:
    used = proof(TOKEN)
    token = issued(used, audience="keyward")
    headers |= {"Authorization": f"DPoP {token}", "DPoP": used}


# All of one application.
CLIENTS = [
    client_secret_basic,
    api_key_as_user_name,
    client_secret_post,
    private_key_jwt,
]
CALLERS = [*CLIENTS, bearer_token, bearer_api_key]
# These can be refused.
OTHERS = [
    client_with_limits,
    wrong_secret,
    wrong_token,
    token_without_proof,
    proof_without_nonce,
    token_with_used_proof,
]


def issued(proof: str | None = None, **form: str) -> str:
    """A new token of the application that most requests come from."""
    headers = {"DPoP": proof} if proof else {}
    client_secret_basic(headers, form)
    form |= {"grant_type": "client_credentials"}
    answer = requests.post(
        SCENE["http"] + TOKEN, data=form, headers=headers, timeout=30
    )
    answer.raise_for_status()
    return answer.json()["access_token"]


def nonce() -> str | None:
    """A nonce of the server, if it demands one. It accepts each for five minutes."""
    return nonce_of_minute(int(time.time()) // 60)


@functools.cache
def nonce_of_minute(minute: int) -> str | None:
    headers: Headers = {"DPoP": proof(TOKEN, has_nonce=False)}
    client_secret_basic(headers, {})
    form = {"grant_type": "client_credentials"}
    answer = requests.post(
        SCENE["http"] + TOKEN, data=form, headers=headers, timeout=30
    )
    return answer.headers.get("DPoP-Nonce")


def proof(path: str, token: str | None = None, has_nonce: bool = True) -> str:
    """A DPoP proof for a request."""
    claims = {
        "htm": "POST",
        "htu": ISSUER + path,
        "iat": int(time.time()),
        "jti": f"proof {next(NUMBER)}",
    }
    if token:
        digest = hashlib.sha256(token.encode()).digest()
        claims["ath"] = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    if has_nonce and (needed := nonce()):
        claims["nonce"] = needed
    key = jwt.algorithms.ECAlgorithm.to_jwk(PROOF_KEY.public_key(), as_dict=True)
    return jwt.encode(
        claims, PROOF_KEY, "ES256", headers={"typ": "dpop+jwt", "jwk": key}
    )


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    if case.path not in (TOKEN, INTROSPECT, REVOKE) or case.method.upper() != "POST":
        return
    if not isinstance(case.body, dict):
        return
    turn = next(TURN)
    # As generated: almost always without a client that exists.
    if turn % 16 == 15:
        return
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    is_prepared = is_positive and turn % 3 != 2
    form = {k: v for k, v in case.body.items() if k not in CLIENT}
    headers: Headers = {}
    if is_prepared:
        # Lists and objects would be repeated parameters.
        form = {k: v for k, v in form.items() if isinstance(v, str)}
        case.headers.pop("DPoP", None)
        if case.path == TOKEN:
            prepare_grant(form, turn)
        else:
            form["token"] = issued()
    elif case.path != TOKEN and "token" in form and turn % 2 == 0:
        form["token"] = [issued(), SCENE["api_key"]["secret"]][turn // 2 % 2]
    case.headers.pop("Authorization", None)
    if turn % 4 == 3:
        OTHERS[turn // 4 % len(OTHERS)](headers, form)
    else:
        authenticate(case.path, headers, form, turn)
        if is_prepared:
            PREPARED.add(case.id)
    if case.path == INTROSPECT and turn % 5 == 0:
        headers["Accept"] = JWT
    case.headers.update(headers)
    case.body = form


def authenticate(path: str, headers: Headers, form: Form, turn: int) -> None:
    """As a client that may do what the request asks for."""
    if path != TOKEN:
        if turn % 7 == 0:
            token = issued(proof(TOKEN), audience="keyward")
            headers |= {"Authorization": f"DPoP {token}", "DPoP": proof(path, token)}
        else:
            CALLERS[turn // 2 % len(CALLERS)](headers, form)
        return
    if form.get("grant_type") == EXCHANGE:
        gateway(headers, form)
    else:
        CLIENTS[turn // 2 % len(CLIENTS)](headers, form)
    if turn % 3 == 0:
        headers["DPoP"] = proof(TOKEN)


def prepare_grant(form: Form, turn: int) -> None:
    """Asks for something that can be granted."""
    for name in ("scope", "audience", "resource", "authorization_details"):
        form.pop(name, None)
    if turn % 4 == 0:
        form["scope"] = "calls.read"
    if turn % 6 == 0:
        form["resource"] = ["tenants/acme"]
    if form.get("grant_type") != EXCHANGE:
        return
    presented = [(issued(), ACCESS_TOKEN), (SCENE["api_key"]["secret"], API_KEY)]
    form["subject_token"], form["subject_token_type"] = presented[turn // 2 % 2]
    form.pop("actor_token", None)
    form.pop("actor_token_type", None)
    if turn % 5 == 0:
        form |= {"actor_token": issued(), "actor_token_type": ACCESS_TOKEN}


@schemathesis.check
def prepared_request_succeeds(
    context: CheckContext, response: Response, case: Case
) -> None:
    if case.id in PREPARED and response.status_code != 200:
        raise AssertionError(f"a right request is refused: {response.text}")


@schemathesis.check
def success_needs_a_credential(
    context: CheckContext, response: Response, case: Case
) -> None:
    if response.status_code != 200 or response.request.method != "POST":
        return
    body = response.request.body or b""
    text = body if isinstance(body, str) else body.decode()
    form = dict(parse_qsl(text))
    in_body = {"client_secret", "client_assertion"} & form.keys()
    if "Authorization" not in response.request.headers and not in_body:
        raise AssertionError("200 without a credential")

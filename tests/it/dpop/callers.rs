//! Keyward's own interfaces with tokens that are bound to a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::proto::token::{IntrospectTokenRequest, IntrospectTokenResponse};
use reqwest::Method;
use tonic::{Code, Request, Status};

use super::{GRPC_URL, PUBLIC, Prover};
use crate::harness::{Answer, Backend, Keyward, connect, on_both_databases, reason};

on_both_databases!(
    bound_token_needs_a_proof_of_its_key_for_each_call,
    scheme_of_authorization_is_accepted_in_any_case,
);

const INTROSPECT: &str = "https://keyward.test/oauth2/introspect";
const INTROSPECT_RPC: &str = "/keyward.token.v1.TokenService/IntrospectToken";

/// A name, the scheme, the token, the proofs over HTTP and over gRPC, and the error over HTTP.
type Case<'a> = (&'a str, &'a str, &'a str, Vec<String>, Vec<String>, &'a str);

/// Asks about a token over HTTP, with this `Authorization` and these proofs.
async fn introspect(kw: &Keyward, scheme: &str, token: &str, proofs: &[&str]) -> Answer {
    let mut request = kw
        .request(Method::POST, "/oauth2/introspect")
        .header("Authorization", format!("{scheme} {token}"))
        .form(&[("token", token)]);
    for proof in proofs {
        request = request.header("DPoP", *proof);
    }
    kw.send(request).await
}

async fn introspect_rpc(
    kw: &Keyward,
    scheme: &str,
    token: &str,
    proofs: &[&str],
) -> Result<IntrospectTokenResponse, Status> {
    let mut request = Request::new(IntrospectTokenRequest { token: token.to_owned() });
    request.metadata_mut().insert("authorization", format!("{scheme} {token}").parse().unwrap());
    for proof in proofs {
        request.metadata_mut().append("dpop", proof.parse().unwrap());
    }
    let mut client = TokenServiceClient::new(connect(&kw.grpc()).await);
    client.introspect_token(request).await.map(tonic::Response::into_inner)
}

async fn bound_token_needs_a_proof_of_its_key_for_each_call(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let kind = keyward::proto::admin::credential::Kind::ClientSecret;
    let (_, client) = admin.credential(&application.name, kind).await;
    let (prover, thief) = (Prover::new(), Prover::new());
    let bound = prover.token(&kw, &client, "keyward").await;
    let other = prover.token(&kw, &client, "keyward").await;
    let plain = client.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;

    let http = ("POST", INTROSPECT);
    let proof = prover.with_token(&kw, http, &bound);
    let good = introspect(&kw, "DPoP", &bound, &[&proof]).await;
    assert_eq!(good.status, 200, "{good:?}");
    let body = good.json();
    assert_eq!(body["token_type"], "DPoP");
    assert_eq!(body["cnf"]["jkt"], prover.thumbprint());
    let lower = prover.with_token(&kw, http, &bound);
    assert_eq!(introspect(&kw, "dpop", &bound, &[&lower]).await.status, 200);

    let rpc_url = format!("{GRPC_URL}{INTROSPECT_RPC}");
    let rpc = ("POST", rpc_url.as_str());
    let of_rpc = prover.with_token(&kw, rpc, &bound);
    let info = introspect_rpc(&kw, "DPoP", &bound, &[&of_rpc]).await.unwrap();
    assert_eq!(info.confirmation.unwrap().jkt, prover.thumbprint());

    let fresh = || prover.with_token(&kw, http, &bound);
    let fresh_rpc = || prover.with_token(&kw, rpc, &bound);
    let of_thief = |at| thief.with_token(&kw, at, &bound);
    let of_other = |at| prover.with_token(&kw, at, &other);
    let without_hash = |url: &str| prover.sign(&prover.claims(&kw, "POST", url));
    let elsewhere = prover.with_token(&kw, ("POST", "https://keyward.test/oauth2/revoke"), &bound);
    let api_key = {
        let kind = keyward::proto::admin::credential::Kind::ApiKey;
        admin.credential(&application.name, kind).await.1.secret
    };
    // The scheme, the token, the proofs over HTTP and over gRPC, the error over HTTP.
    let invalid = "invalid_token";
    let cases: Vec<Case<'_>> = vec![
        ("stolen", "Bearer", &bound, vec![], vec![], invalid),
        ("as bearer", "Bearer", &bound, vec![fresh()], vec![fresh_rpc()], invalid),
        ("no proof", "DPoP", &bound, vec![], vec![], invalid),
        ("another key", "DPoP", &bound, vec![of_thief(http)], vec![of_thief(rpc)], invalid),
        (
            "not bound",
            "DPoP",
            &plain,
            vec![prover.with_token(&kw, http, &plain)],
            vec![prover.with_token(&kw, rpc, &plain)],
            invalid,
        ),
        (
            "API key",
            "DPoP",
            &api_key,
            vec![prover.with_token(&kw, http, &api_key)],
            vec![prover.with_token(&kw, rpc, &api_key)],
            invalid,
        ),
        (
            "another token",
            "DPoP",
            &bound,
            vec![of_other(http)],
            vec![of_other(rpc)],
            "invalid_dpop_proof",
        ),
        (
            "no hash",
            "DPoP",
            &bound,
            vec![without_hash(INTROSPECT)],
            vec![without_hash(&rpc_url)],
            "invalid_dpop_proof",
        ),
        ("used", "DPoP", &bound, vec![proof.clone()], vec![of_rpc.clone()], "invalid_dpop_proof"),
        (
            "two",
            "DPoP",
            &bound,
            vec![fresh(), fresh()],
            vec![fresh_rpc(), fresh_rpc()],
            "invalid_dpop_proof",
        ),
        (
            "elsewhere",
            "DPoP",
            &bound,
            vec![elsewhere.clone()],
            vec![elsewhere.clone()],
            "invalid_dpop_proof",
        ),
        ("other wire", "DPoP", &bound, vec![fresh_rpc()], vec![fresh()], "invalid_dpop_proof"),
    ];
    for (what, scheme, token, over_http, over_grpc, error) in cases {
        let texts = |proofs: &[String]| proofs.to_vec();
        let (over_http, over_grpc) = (texts(&over_http), texts(&over_grpc));
        let over_http: Vec<_> = over_http.iter().map(String::as_str).collect();
        let over_grpc: Vec<_> = over_grpc.iter().map(String::as_str).collect();
        let answer = introspect(&kw, scheme, token, &over_http).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_eq!(answer.error(), error, "{what}: {answer:?}");
        let challenges: Vec<_> = answer
            .headers
            .get_all("www-authenticate")
            .iter()
            .map(|v| v.to_str().unwrap())
            .collect();
        let algorithms = "algs=\"ES256 ES384 EdDSA Ed25519 PS256 RS256\"";
        let challenge = format!("DPoP realm=\"keyward\", error=\"{error}\", {algorithms}");
        let named = challenges.iter().any(|one| one.starts_with(&challenge));
        assert!(named, "{what}: {challenges:?}");
        let status = introspect_rpc(&kw, scheme, token, &over_grpc).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
        let expected = if error == invalid { "UNAUTHENTICATED" } else { "INVALID_DPOP_PROOF" };
        assert_eq!(reason(&status), expected, "{what}");
    }
    // None of them has spent anything: each new proof is accepted.
    assert_eq!(introspect(&kw, "DPoP", &bound, &[&fresh()]).await.status, 200);
    introspect_rpc(&kw, "DPoP", &bound, &[&fresh_rpc()]).await.unwrap();
    // A token that is bound to nothing is accepted as before.
    assert_eq!(introspect(&kw, "Bearer", &plain, &[]).await.status, 200);
}

/// RFC 9110, section 11.1. The FAPI conformance suite has a module for it
/// (`AccessTokenTypeHeaderCaseSensitivity`).
async fn scheme_of_authorization_is_accepted_in_any_case(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let kind = keyward::proto::admin::credential::Kind::ClientSecret;
    let (_, client) = admin.credential(&application.name, kind).await;
    let prover = Prover::new();
    let bound = prover.token(&kw, &client, "keyward").await;
    let plain = client.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    let rpc_url = format!("{GRPC_URL}{INTROSPECT_RPC}");
    for scheme in ["DPoP", "dpop", "DPOP", "dPoP"] {
        let proof = prover.with_token(&kw, ("POST", INTROSPECT), &bound);
        let answer = introspect(&kw, scheme, &bound, &[&proof]).await;
        assert_eq!(answer.status, 200, "{scheme}: {answer:?}");
        let proof = prover.with_token(&kw, ("POST", &rpc_url), &bound);
        introspect_rpc(&kw, scheme, &bound, &[&proof]).await.expect(scheme);
    }
    for scheme in ["Bearer", "bearer", "BEARER", "bEARER"] {
        let answer = introspect(&kw, scheme, &plain, &[]).await;
        assert_eq!(answer.status, 200, "{scheme}: {answer:?}");
        introspect_rpc(&kw, scheme, &plain, &[]).await.expect(scheme);
    }
    let pair = STANDARD.encode(format!("{}:{}", client.client_id, client.secret));
    for scheme in ["Basic", "basic", "BASIC"] {
        let request = kw
            .request(Method::POST, "/oauth2/token")
            .header("Authorization", format!("{scheme} {pair}"))
            .form(&[("grant_type", "client_credentials"), ("audience", "keyward")]);
        let answer = kw.send(request).await;
        assert_eq!(answer.status, 200, "{scheme}: {answer:?}");
    }
    // Another case of the scheme is no way around its rules.
    assert_eq!(introspect(&kw, "bearer", &bound, &[]).await.status, 401);
    assert_eq!(introspect(&kw, "dpop", &bound, &[]).await.status, 401);
}

//! Tokens that are bound to a client certificate (RFC 8705, section 3).

use envoy_types::ext_authz::v3::pb::{CheckRequest, HttpResponse};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{
    HttpRequest, Peer, Request as HttpAttributes,
};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::access::{CheckAccessRequest, Possession};
use keyward::proto::admin as pb;
use keyward::proto::token as tokens;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::verifier::{Refusal, SenderProof, Settings, Verifier, VerifierCredential};
use serde_json::json;
use tonic::{Code, Request};

use super::PATIENCE;
use super::certificates::{Authority, Pair};
use super::mtls::{CRM, Mtls, claims, of_authority, post, register, thumbprint};
use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, question, reason};

on_both_databases!(credential_can_ask_that_its_tokens_are_bound);

/// A token of a client with this certificate, for its tenant.
async fn bound_token(mtls: &Mtls, admin: &mut Admin, clients: &Authority, own: &Pair) -> String {
    admin.acme().await;
    let rule = of_authority(clients, "CN=crm");
    let id = register(admin, CRM, rule).await.unwrap().client_id;
    mtls.issue(Some(own), &id, &[]).await.unwrap().access_token
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_bound_token_needs_the_thumbprint() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    let clients = Authority::new("clients");
    let (own, other) = (clients.named("crm"), clients.named("crm"));
    let token = bound_token(&mtls, &mut admin, &clients, &own).await;
    let mut check = async |thumbprint: Option<String>| {
        let possession = thumbprint
            .map(|certificate_thumbprint| Possession { certificate_thumbprint, dpop: None });
        let request = CheckAccessRequest { possession, ..question(&token, &["a"]) };
        admin.access.check_access(request).await.map(tonic::Response::into_inner)
    };
    let hexadecimal = {
        use aws_lc_rs::digest::{SHA256, digest};
        let hash = digest(&SHA256, &own.der);
        hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>()
    };
    for right in [thumbprint(&own), hexadecimal.concat(), hexadecimal.join(":")] {
        let answer = check(Some(right)).await.unwrap();
        assert!(answer.allowed, "{answer:?}");
    }
    for wrong in [None, Some(String::new()), Some(thumbprint(&other))] {
        let answer = check(wrong.clone()).await.unwrap();
        assert!(!answer.allowed);
        assert_eq!(answer.outcome(), Outcome::NotPossessed, "{wrong:?}");
        assert_eq!(answer.principal, None, "nothing is said of its holder");
    }
    let status = check(Some("x".to_owned())).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert!(status.message().contains("possession.certificate_thumbprint"), "{status:?}");
}

/// As Envoy and nginx write it: PEM, percent-encoded. Traefik writes base64.
fn as_gateways_write(certificate: &Pair) -> [String; 2] {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&certificate.der);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    let each =
        [('%', "%25"), ('\n', "%0A"), (' ', "%20"), ('+', "%2B"), ('/', "%2F"), ('=', "%3D")];
    let encoded = each.into_iter().fold(pem, |text, (from, to)| text.replace(from, to));
    [encoded, base64]
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_token_needs_the_certificate_that_its_gateway_saw() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    let clients = Authority::new("clients");
    let (own, other) = (clients.named("crm"), clients.named("crm"));
    let token = bound_token(&mtls, &mut admin, &clients, &own).await;
    let status = async |certificate: &str| {
        let authorization = [("authorization".to_owned(), format!("Bearer {token}"))];
        let http = HttpRequest {
            method: "GET".to_owned(),
            path: "/v1/calls".to_owned(),
            headers: authorization.into(),
            ..Default::default()
        };
        let peer = Peer { certificate: certificate.to_owned(), ..Default::default() };
        let attributes = AttributeContext {
            source: Some(peer),
            request: Some(HttpAttributes { http: Some(http), ..Default::default() }),
            ..Default::default()
        };
        let mut request = Request::new(CheckRequest { attributes: Some(attributes) });
        let bearer = format!("Bearer {}", admin.token).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut client = AuthorizationClient::new(mtls.channel(None).await);
        match client.check(request).await.unwrap().into_inner().http_response {
            Some(HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
            other => panic!("there are no endpoint rules: {other:?}"),
        }
    };
    // There is no rule for the path, so what is proved is refused with 403.
    for right in as_gateways_write(&own) {
        assert_eq!(status(&right).await, 403, "{right}");
    }
    for wrong in as_gateways_write(&other) {
        assert_eq!(status(&wrong).await, 401, "{wrong}");
    }
    assert_eq!(status("").await, 401);
    for unreadable in ["x", "%zz", "-----BEGIN CERTIFICATE-----", "AAAA"] {
        let refused = status(unreadable).await;
        assert!(matches!(refused, 400 | 401), "{unreadable}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keyward_itself_takes_a_bound_token_with_its_certificate_only() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    let clients = Authority::new("clients");
    let until =
        |name| clients.custom(name, |params| params.not_after = rcgen::date_time_ymd(2026, 6, 2));
    let (own, other) = (until("gateway"), clients.named("gateway"));
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let rule = of_authority(&clients, "CN=gateway");
    let id = register(&mut admin, &application.name, rule).await.unwrap().client_id;
    let token = async || mtls.issue(Some(&own), &id, &["keyward"]).await.unwrap().access_token;
    let ask = async |channel: &tonic::transport::Channel, token: &str| {
        let about = tokens::IntrospectTokenRequest { token: token.to_owned() };
        let mut request = Request::new(about);
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut client = TokenServiceClient::new(channel.clone());
        client.introspect_token(request).await.map(tonic::Response::into_inner)
    };
    let (with, without) = (mtls.channel(Some(&own)).await, mtls.channel(None).await);
    let with_other = mtls.channel(Some(&other)).await;
    let first = token().await;
    let info = ask(&with, &first).await.unwrap();
    assert!(info.active);
    assert_eq!(info.confirmation.unwrap().x5t_s256, thumbprint(&own));
    for channel in [&without, &with_other] {
        let status = ask(channel, &first).await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "UNAUTHENTICATED"));
        assert!(status.message().contains("certificate"), "{}", status.message());
    }
    let header = format!("Bearer {first}");
    let form = [("token", &*first)];
    for (identity, status) in [(Some(&own), 200), (None, 401), (Some(&other), 401)] {
        let mut stream = mtls.connect(identity).await;
        let headers = [("Authorization", &*header)];
        let answer = post(&mut stream, "/oauth2/introspect", &headers, &form).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 200 {
            assert_eq!(answer.body["cnf"], json!({ "x5t#S256": thumbprint(&own) }));
            assert_eq!(answer.body["token_type"], "Bearer");
        } else {
            assert_eq!(answer.body["error"], "invalid_token");
        }
    }

    // The connection outlives its certificate, which ends at midnight. The clock shows noon.
    mtls.kw.advance(12 * 3600 - 60);
    let last = token().await;
    assert!(ask(&with, &last).await.is_ok());
    mtls.kw.advance(120);
    let status = ask(&with, &last).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(mtls.admin().await.is_active(&last).await, "the token itself is");
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_takes_a_bound_token_with_its_certificate_only() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    let clients = Authority::new("clients");
    let (own, other) = (clients.named("crm"), clients.named("crm"));
    let token = bound_token(&mtls, &mut admin, &clients, &own).await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let kind = pb::credential::Kind::ClientSecret;
    let (_, gateway) = admin.credential(&application.name, kind).await;
    let Credential { client_id, secret } = gateway;
    let access = VerifierCredential::client_secret(client_id, secret);
    let url = format!("https://{}", mtls.kw.server().grpc);
    let settings = Settings {
        ca: Some(mtls.files.path("server-ca.pem").into()),
        clock: mtls.kw.clock(),
        ready_within: PATIENCE,
        ..Settings::new(url, access, "https://keyward.test", "tenants/acme")
    };
    let verifier = Verifier::connect(settings).await.unwrap();
    assert_eq!(verifier.verify(&token).map(drop), Err(Refusal::CertificateRequired));
    let with = |pair: &Pair| {
        let proof = SenderProof::certificate(&pair.der);
        verifier.verify_bound(&token, &proof)
    };
    assert_eq!(with(&other).map(drop), Err(Refusal::OtherCertificate));
    let accepted = with(&own).unwrap();
    assert_eq!(accepted.certificate_thumbprint(), Some(&*thumbprint(&own)));

    // The interceptor finds the certificate among the extensions.
    let request = |proof: Option<SenderProof>| {
        let mut request = Request::new(());
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        proof.map(|proof| request.extensions_mut().insert(proof));
        request
    };
    let mut interceptor = verifier.interceptor(&["a"]);
    let mut ask = |proof| tonic::service::Interceptor::call(&mut interceptor, request(proof));
    assert!(ask(Some(SenderProof::certificate(&own.der))).is_ok());
    for proof in [None, Some(SenderProof::default()), Some(SenderProof::certificate(&other.der))] {
        assert_eq!(ask(proof).unwrap_err().code(), Code::Unauthenticated);
    }
}

async fn credential_can_ask_that_its_tokens_are_bound(backend: Backend) {
    let mtls = Mtls::start(backend, &[]).await;
    let mut admin = mtls.admin().await;
    let (credential, secret) = admin.acme().await;
    let own = Authority::new("any").named("any");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &*secret.client_id),
        ("client_secret", &*secret.secret),
    ];
    let token = async |identity| mtls.post(identity, "/oauth2/token", &form).await;
    let plain = token(Some(&own)).await;
    let plain = plain.body["access_token"].as_str().unwrap();
    assert_eq!(claims(plain)["cnf"], json!(null), "not asked for");

    let request = pb::UpdateCredentialRequest {
        credential: Some(pb::Credential {
            certificate_bound_tokens: true,
            etag: String::new(),
            ..credential
        }),
        update_mask: mask(&["certificate_bound_tokens"]),
    };
    let changed = admin.credentials.update_credential(request).await.unwrap().into_inner();
    assert!(changed.credential.unwrap().certificate_bound_tokens);
    assert!(!admin.is_active(plain).await, "tokens that are not bound are revoked");
    let bound = token(Some(&own)).await;
    let bound = bound.body["access_token"].as_str().unwrap();
    assert_eq!(claims(bound)["cnf"], json!({ "x5t#S256": thumbprint(&own) }));
    let refused = token(None).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_request")));
    let says = refused.body["error_description"].as_str().unwrap();
    assert!(says.contains("client certificate"), "{says}");
    let request = tokens::IssueTokenRequest { credential: secret.proof(), ..Default::default() };
    let mut client = TokenServiceClient::new(mtls.channel(None).await);
    let status = client.issue_token(request).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_the_connection_meets_the_policy_of_bound_tokens() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    let (_, secret) = admin.acme().await;
    let tenant = pb::Tenant {
        name: "tenants/acme".to_owned(),
        policy: Some(pb::Policy { require_bound_tokens: true, ..Default::default() }),
        ..Default::default()
    };
    let update_mask = mask(&["policy"]);
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    admin.tenants.update_tenant(request).await.unwrap();
    let own = Authority::new("any").named("any");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &*secret.client_id),
        ("client_secret", &*secret.secret),
    ];
    let bound = mtls.post(Some(&own), "/oauth2/token", &form).await;
    let token = bound.body["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["cnf"], json!({ "x5t#S256": thumbprint(&own) }));
    let refused = mtls.post(None, "/oauth2/token", &form).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_request")));
}

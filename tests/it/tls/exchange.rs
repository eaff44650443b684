//! Token exchange (RFC 8693) by a client with a certificate.

use keyward::proto::token as tokens;
use keyward::proto::token::exchange_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use serde_json::json;
use tonic::{Code, Response, Status};

use super::certificates::{Authority, Pair};
use super::mtls::{CRM, HttpAnswer, Mtls, claims, of_authority, register, thumbprint};
use crate::harness::{ACCESS_TOKEN, Backend, exchange_of, on_both_databases, reason};

on_both_databases!(client_with_a_certificate_exchanges_tokens);

const GATEWAY: &str = "tenants/acme/applications/gateway";

async fn over_http(
    mtls: &Mtls,
    identity: Option<&Pair>,
    client_id: &str,
    subject: &str,
) -> HttpAnswer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("client_id", client_id),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    mtls.post(identity, "/oauth2/token", &form).await
}

async fn over_grpc(
    mtls: &Mtls,
    identity: Option<&Pair>,
    client_id: &str,
    subject: &str,
) -> Result<String, Status> {
    let proof = tokens::ClientCertificate { client_id: client_id.to_owned() };
    let request = tokens::ExchangeTokenRequest {
        credential: Some(Proof::ClientCertificate(proof)),
        ..exchange_of(subject)
    };
    let mut client = TokenServiceClient::new(mtls.channel(identity).await);
    client.exchange_token(request).await.map(Response::into_inner).map(|token| token.access_token)
}

async fn client_with_a_certificate_exchanges_tokens(backend: Backend) {
    let mtls = Mtls::start(backend, &[]).await;
    let mut admin = mtls.admin().await;
    let (_, crm) = admin.acme().await;
    admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let clients = Authority::new("clients");
    let (own, other) = (clients.named("gateway"), clients.named("other"));
    let rule = of_authority(&clients, "CN=gateway");
    let id = register(&mut admin, GATEWAY, rule).await.unwrap().client_id;
    let of_crm = clients.named("crm");
    let rule = of_authority(&clients, "CN=crm");
    let crm_id = register(&mut admin, CRM, rule).await.unwrap().client_id;

    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &*crm.client_id),
        ("client_secret", &*crm.secret),
    ];
    let plain = mtls.post(None, "/oauth2/token", &form).await;
    let plain = plain.body["access_token"].as_str().unwrap().to_owned();
    let answer = over_http(&mtls, Some(&own), &id, &plain).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["issued_token_type"], ACCESS_TOKEN);
    let over_wire = over_grpc(&mtls, Some(&own), &id, &plain).await.unwrap();
    for child in [answer.body["access_token"].as_str().unwrap(), &over_wire] {
        let claims = claims(child);
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(CRM), &json!(id)));
        let cnf = json!({ "x5t#S256": thumbprint(&own) });
        assert_eq!(claims["cnf"], cnf, "tokens of such a client are bound");
    }
    for identity in [None, Some(&other), Some(&of_crm)] {
        let answer = over_http(&mtls, identity, &id, &plain).await;
        assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_client")));
        let status = over_grpc(&mtls, identity, &id, &plain).await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "INVALID_CLIENT"));
    }
    // A token that is bound to another certificate: the gateway does not have it.
    let bound = mtls.issue(Some(&of_crm), &crm_id, &[]).await.unwrap().access_token;
    let answer = over_http(&mtls, Some(&own), &id, &bound).await;
    assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")));
    let status = over_grpc(&mtls, Some(&own), &id, &bound).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert!(status.message().contains("certificate"), "{status:?}");
}

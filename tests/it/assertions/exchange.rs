//! Token exchange (RFC 8693) by a client that signs assertions.

use keyward::proto::admin::credential::public_key::Keys;
use keyward::proto::token::exchange_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::proto::token::{ClientAssertion, ExchangeTokenRequest};
use serde_json::Value;
use tonic::{Code, Response, Status};

use super::{CRM, Party, jwks, post, register, start};
use crate::harness::signer::Signer;
use crate::harness::{
    ACCESS_TOKEN, Backend, Keyward, connect, exchange_of, on_both_databases, reason,
};

on_both_databases!(client_with_a_key_exchanges_tokens);

const GATEWAY: &str = "tenants/acme/applications/gateway";

async fn over_http(kw: &Keyward, assertion: &str, subject: &str) -> crate::harness::Answer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    post(kw, "/oauth2/token", assertion, &form).await
}

async fn over_grpc(kw: &Keyward, assertion: &str, subject: &str) -> Result<String, Status> {
    let assertion = ClientAssertion { client_id: String::new(), assertion: assertion.to_owned() };
    let request = ExchangeTokenRequest {
        credential: Some(Proof::ClientAssertion(assertion)),
        ..exchange_of(subject)
    };
    let mut client = TokenServiceClient::new(connect(&kw.grpc()).await);
    client.exchange_token(request).await.map(Response::into_inner).map(|token| token.access_token)
}

async fn client_with_a_key_exchanges_tokens(backend: Backend) {
    let (kw, mut admin, crm) = start(backend, &[super::NO_BUDGET]).await;
    admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let (signer, kid) = (Signer::new("EdDSA"), "gateway");
    let keys = Keys::Jwks(jwks(&[signer.jwk_with(&[("kid", kid)])]));
    let credential = register(&mut admin, GATEWAY, keys).await;
    let gateway = Party { credential, signer, kid };
    let subject = super::issue(&kw, &crm.assertion(&kw)).await.unwrap();

    // A refused exchange spends no assertion.
    let assertion = gateway.assertion(&kw);
    assert_eq!(over_http(&kw, &assertion, "x.y.z").await.error(), "invalid_request");
    let refused = over_grpc(&kw, &assertion, "x.y.z").await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    let answer = over_http(&kw, &assertion, &subject).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(over_http(&kw, &assertion, &subject).await.error(), "invalid_client");
    let child = answer.json()["access_token"].as_str().unwrap().to_owned();

    let assertion = gateway.assertion(&kw);
    let over_wire = over_grpc(&kw, &assertion, &subject).await.unwrap();
    let again = over_grpc(&kw, &assertion, &subject).await.unwrap_err();
    assert_eq!((again.code(), &*reason(&again)), (Code::Unauthenticated, "INVALID_CLIENT"));
    for child in [&child, &over_wire] {
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(child).unwrap().claims;
        assert_eq!((&claims["sub"], &claims["client_id"]), (&CRM.into(), &gateway.id().into()));
        assert!(admin.is_active(child).await);
    }
    // A client that may not exchange, with a right assertion.
    let denied = over_http(&kw, &crm.assertion(&kw), &subject).await;
    assert_eq!(denied.error(), "unauthorized_client");
    let denied = over_grpc(&kw, &crm.assertion(&kw), &subject).await.unwrap_err();
    assert_eq!(reason(&denied), "EXCHANGE_NOT_ALLOWED");
}

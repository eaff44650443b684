//! Exchange of tokens that are bound to a key: it is a use of the token, and the new one is bound as
//! well.

use keyward::proto::token::ExchangeTokenRequest;
use keyward::proto::token::exchange_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use reqwest::Method;
use serde_json::json;
use tonic::{Request, Response, Status};

use super::{GRPC_URL, PUBLIC, Prover, claims_of};
use crate::harness::{
    ACCESS_TOKEN, Answer, Backend, Credential, Keyward, connect, exchange_of, on_both_databases,
};

on_both_databases!(bound_token_is_exchanged_only_with_its_key);

const EXCHANGE: &str = "/keyward.token.v1.TokenService/ExchangeToken";

async fn over_http(
    kw: &Keyward,
    client: &Credential,
    (subject, actor): (&str, Option<&str>),
    prover: Option<&Prover>,
) -> Answer {
    let mut form = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    if let Some(actor) = actor {
        form.extend([("actor_token", actor), ("actor_token_type", ACCESS_TOKEN)]);
    }
    let mut request = kw.request(Method::POST, "/oauth2/token");
    if let Some(prover) = prover {
        request = request.header("DPoP", prover.for_token(kw));
    }
    kw.send(request.basic_auth(&client.client_id, Some(&client.secret)).form(&form)).await
}

async fn over_grpc(
    kw: &Keyward,
    client: &Credential,
    (subject, actor): (&str, Option<&str>),
    prover: Option<&Prover>,
) -> Result<String, Status> {
    let mut request = Request::new(ExchangeTokenRequest {
        credential: Some(Proof::ClientSecret(keyward::proto::token::ClientSecret {
            client_id: client.client_id.clone(),
            client_secret: client.secret.clone(),
        })),
        actor_token: actor.unwrap_or_default().to_owned(),
        actor_token_type: actor.map_or("", |_| ACCESS_TOKEN).to_owned(),
        ..exchange_of(subject)
    });
    if let Some(prover) = prover {
        let url = format!("{GRPC_URL}{EXCHANGE}");
        let proof = prover.sign(&prover.claims(kw, "POST", &url));
        request.metadata_mut().insert("dpop", proof.parse().unwrap());
    }
    let mut client = TokenServiceClient::new(connect(&kw.grpc()).await);
    client.exchange_token(request).await.map(Response::into_inner).map(|token| token.access_token)
}

async fn bound_token_is_exchanged_only_with_its_key(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, gateway) = admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let (right, wrong) = (Prover::new(), Prover::new());
    let bound = right.token(&kw, &crm, "").await;
    let plain = crm.token(&kw.grpc()).await;
    for (subject, actor, is_bound) in [
        (&plain, None, false),
        (&bound, None, true),
        (&bound, Some(&plain), true),
        (&plain, Some(&bound), true),
    ] {
        let tokens = (subject.as_str(), actor.map(String::as_str));
        for (which, shown) in [("none", None), ("right", Some(&right)), ("wrong", Some(&wrong))] {
            let case = format!("bound: {is_bound}, actor: {}, {which}", actor.is_some());
            let answer = over_http(&kw, &gateway, tokens, shown).await;
            let issued = over_grpc(&kw, &gateway, tokens, shown).await;
            if is_bound && which != "right" {
                assert_eq!(answer.status, 400, "{case}");
                assert_eq!(answer.error(), "invalid_request", "{case}");
                assert!(issued.unwrap_err().message().contains("bound to"), "{case}");
                continue;
            }
            assert_eq!(answer.status, 200, "{case}: {answer:?}");
            let body = answer.json();
            let cnf = shown.map(|prover| json!({ "jkt": prover.thumbprint() }));
            let kind = if cnf.is_some() { "DPoP" } else { "Bearer" };
            assert_eq!(body["token_type"], kind, "{case}");
            for token in [body["access_token"].as_str().unwrap(), &issued.unwrap()] {
                assert_eq!(claims_of(token).get("cnf"), cnf.as_ref(), "{case}");
            }
        }
    }
}

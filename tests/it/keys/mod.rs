//! The life of signing keys: schedule, rotation by hand, and revocation after a compromise.

mod by_hand;
mod revoked;
mod schedule;

use keyward::proto::admin as pb;
use keyward::proto::admin::signing_key::State;

use crate::harness::{Admin, Credential, Keyward};

const DAY: u64 = 86_400;
/// How long before it signs a key is published at least.
const NOTICE: u64 = 600;
/// How long a key is published after it stopped signing.
const KEPT: u64 = 3600 + 600;

/// Does what is due by schedule, as the server does every 30 s.
async fn maintain(kw: &Keyward) {
    kw.server().service.admin.maintain_signing_keys().await.unwrap();
}

/// The published keys, by HTTP.
async fn jwks(kw: &Keyward) -> Vec<String> {
    let answer = reqwest::get(kw.url("/oauth2/jwks")).await.unwrap();
    let jwks: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// The key that signs now.
async fn signer(kw: &Keyward, client: &Credential) -> String {
    kid(&client.token(&kw.grpc()).await)
}

async fn list(admin: &mut Admin) -> Vec<pb::SigningKey> {
    let request = pb::ListSigningKeysRequest::default();
    admin.keys.list_signing_keys(request).await.unwrap().into_inner().signing_keys
}

/// The states of all keys, the newest first.
async fn states(kw: &Keyward) -> Vec<State> {
    let mut admin = kw.admin().await;
    list(&mut admin).await.iter().map(pb::SigningKey::state).collect()
}

fn name(kid: &str) -> String {
    format!("signingKeys/{kid}")
}

async fn rotate(admin: &mut Admin) -> Result<pb::SigningKey, tonic::Status> {
    let answer = admin.keys.rotate_signing_key(pb::RotateSigningKeyRequest {}).await?;
    Ok(answer.into_inner().signing_key.unwrap())
}

async fn retire(admin: &mut Admin, kid: &str) -> Result<pb::SigningKey, tonic::Status> {
    let request = pb::RetireSigningKeyRequest { name: name(kid) };
    Ok(admin.keys.retire_signing_key(request).await?.into_inner().signing_key.unwrap())
}

async fn revoke(admin: &mut Admin, kid: &str) -> pb::RevokeSigningKeyResponse {
    let request = pb::RevokeSigningKeyRequest { name: name(kid), reason: "stolen".to_owned() };
    admin.keys.revoke_signing_key(request).await.unwrap().into_inner()
}

/// The actions of the newest events about keys, with their details.
async fn events(admin: &mut Admin) -> Vec<(String, String)> {
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/system".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let of_keys = events.into_iter().filter(|event| event.resource.starts_with("signingKeys"));
    of_keys.map(|event| (event.action, event.detail)).collect()
}

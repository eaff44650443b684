//! The offline verifier with real servers: accepted tokens, refused tokens, and lost connections.

mod exchanged;
mod gates;
mod keys;
mod lost;
mod refusals;
mod soak;

use std::time::Instant;

use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokensRequest;
use keyward::verifier::{Refusal, Settings, Verified, Verifier, VerifierCredential};

use crate::harness::{Admin, Credential, Keyward, PATIENCE, until, until_some};

const ISSUER: &str = "https://keyward.test";
const ACME: &str = "tenants/acme";

#[expect(clippy::disallowed_methods, reason = "the pauses of a client are not simulated")]
fn now() -> Instant {
    Instant::now()
}

/// The client secret of an application that may follow the list.
async fn gateway(admin: &mut Admin) -> Credential {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    admin.credential(&application.name, Kind::ClientSecret).await.1
}

fn verifier_credential(credential: &Credential) -> VerifierCredential {
    if credential.client_id.is_empty() {
        return VerifierCredential::api_key(credential.secret.clone());
    }
    VerifierCredential::client_secret(credential.client_id.clone(), credential.secret.clone())
}

/// The settings of a verifier for acme's tokens, with the server's clock.
fn settings(kw: &Keyward, server: &str, gateway: &Credential) -> Settings {
    Settings {
        clock: kw.clock(),
        ready_within: PATIENCE,
        ..Settings::new(server, verifier_credential(gateway), ISSUER, ACME)
    }
}

/// A verifier of acme's tokens that is ready.
async fn verifier(kw: &Keyward, gateway: &Credential) -> Verifier {
    Verifier::connect(settings(kw, &kw.grpc(), gateway)).await.unwrap()
}

/// Waits until a token is refused for a reason.
async fn refused(verifier: &Verifier, token: &str, why: &Refusal) {
    until(format!("{why:?}"), async || verifier.verify(token).as_ref().err() == Some(why)).await;
}

/// Waits until a token is accepted.
async fn taken(verifier: &Verifier, token: &str) -> Verified {
    until_some("a good token is accepted", async || verifier.verify(token).ok()).await
}

fn is_lost(verifier: &Verifier, token: &str) -> bool {
    matches!(verifier.verify(token), Err(Refusal::FeedLost { .. }))
}

/// Revokes all tokens of a resource, or one token of a credential.
async fn revoke(admin: &mut Admin, name: &str, token_id: &str) {
    let request = RevokeTokensRequest {
        name: name.to_owned(),
        token_id: token_id.to_owned(),
        ..Default::default()
    };
    admin.tokens.revoke_tokens(request).await.unwrap();
}

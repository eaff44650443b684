//! The offline verifier with real servers: accepted tokens, refused tokens, and lost connections.

mod gates;
mod keys;
mod lost;
mod refusals;
mod soak;

use std::time::{Duration, Instant};

use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokensRequest;
use keyward::verifier::{Refusal, Settings, Verified, Verifier, VerifierCredential};
use tokio::time::{sleep, timeout};

use crate::harness::{Admin, Credential, Keyward};

const ISSUER: &str = "https://keyward.test";
const ACME: &str = "tenants/acme";

/// The time limit for background work on a machine that runs many tests.
const PATIENCE: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
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

/// Waits for background work.
async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let came = async {
        while !there() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, came)
        .await
        .unwrap_or_else(|_| panic!("{what}: the condition was not met in time"));
}

/// Waits until a token is refused for a reason. Returns how long that took.
async fn refused(verifier: &Verifier, token: &str, why: &Refusal) -> Duration {
    let began = now();
    let what = format!("{why:?}");
    until(&what, || verifier.verify(token).as_ref().err() == Some(why)).await;
    began.elapsed()
}

/// Waits until a token is accepted.
async fn taken(verifier: &Verifier, token: &str) -> Verified {
    until("a good token", || verifier.verify(token).is_ok()).await;
    verifier.verify(token).unwrap()
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

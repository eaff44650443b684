//! The offline verifier against real servers: what it takes, what it refuses, and what it does
//! when it hears nothing any more.

mod gates;
mod keys;
mod lost;
mod refusals;
mod soak;

use std::time::{Duration, Instant};

use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokensRequest;
use keyward::verifier::{Access, Refusal, Settings, Verified, Verifier};
use tokio::time::{sleep, timeout};

use crate::harness::{Admin, Credential, Keyward};

const ISSUER: &str = "https://keyward.test";
const ACME: &str = "tenants/acme";

/// How long what comes by itself may take on a machine that runs many tests.
const PATIENCE: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn now() -> Instant {
    Instant::now()
}

/// An application that may follow the list, and a client secret of it.
async fn gateway(admin: &mut Admin) -> Credential {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    admin.credential(&application.name, Kind::ClientSecret).await.1
}

fn access(credential: &Credential) -> Access {
    if credential.client_id.is_empty() {
        return Access::api_key(credential.secret.clone());
    }
    Access::client_secret(credential.client_id.clone(), credential.secret.clone())
}

/// What a verifier of acme's tokens is told, by the server's clock.
fn settings(kw: &Keyward, server: &str, gateway: &Credential) -> Settings {
    Settings {
        clock: kw.clock(),
        ready_within: PATIENCE,
        ..Settings::new(server, access(gateway), ISSUER, ACME)
    }
}

/// A verifier of acme's tokens that is ready.
async fn verifier(kw: &Keyward, gateway: &Credential) -> Verifier {
    Verifier::connect(settings(kw, &kw.grpc(), gateway)).await.unwrap()
}

/// Waits for something that comes by itself.
async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let came = async {
        while !there() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, came).await.unwrap_or_else(|_| panic!("{what}: it did not come true"));
}

/// Waits until a token is refused for a reason; how long that took.
async fn refused(verifier: &Verifier, token: &str, why: &Refusal) -> Duration {
    let began = now();
    let what = format!("{why:?}");
    until(&what, || verifier.verify(token).as_ref().err() == Some(why)).await;
    began.elapsed()
}

/// Waits until a token is taken.
async fn taken(verifier: &Verifier, token: &str) -> Verified {
    until("a good token", || verifier.verify(token).is_ok()).await;
    verifier.verify(token).unwrap()
}

fn is_lost(verifier: &Verifier, token: &str) -> bool {
    matches!(verifier.verify(token), Err(Refusal::FeedLost { .. }))
}

/// Revokes all tokens of something, or one of a credential's.
async fn revoke(admin: &mut Admin, name: &str, token_id: &str) {
    let request = RevokeTokensRequest {
        name: name.to_owned(),
        token_id: token_id.to_owned(),
        ..Default::default()
    };
    admin.tokens.revoke_tokens(request).await.unwrap();
}

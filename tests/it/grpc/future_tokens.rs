//! Tokens and times written by a wrong clock: after the clock is corrected, nothing from the future
//! is trusted.

use std::time::Duration;

use keyward::internals::keys::Claims;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use keyward::verifier::{Refusal, Settings, Verifier, VerifierCredential};

use crate::harness::{Admin, Backend, Keyward, on_both_databases, reason};

on_both_databases!(
    token_from_the_future_is_refused_on_every_interface,
    token_from_the_future_can_be_revoked,
    revocation_covers_tokens_of_a_clock_that_was_ahead,
    last_use_from_the_future_is_replaced_by_the_next,
    token_of_a_clock_slightly_ahead_is_accepted,
);

const AHEAD: Duration = Duration::from_hours(40 * 24);
/// The remaining lifetime after three hours.
const REST: Duration = Duration::from_hours(40 * 24 - 3);
const CRM: &str = "tenants/acme/applications/crm";

/// A token that was issued and accepted while the clock was ahead.
async fn made_ahead(kw: &Keyward, admin: &mut Admin, by: Duration) -> (String, pb::Credential) {
    let (credential, crm) = admin.acme().await;
    kw.clock().set_ahead(by);
    let token = crm.token(&kw.grpc()).await;
    let mut then = kw.admin().await;
    for _ in 0..3 {
        // A cached signature check must not help the token later.
        assert!(then.check(&token, &["a"]).await.allowed, "it is good by that clock");
    }
    // Servers store their time as they run.
    assert_eq!(kw.ops("/readyz").await, 200);
    kw.clock().set_back(by);
    (token, credential)
}

async fn gateway(kw: &Keyward, admin: &mut Admin) -> Verifier {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&application.name, Kind::ClientSecret).await;
    let credential = VerifierCredential::client_secret(gateway.client_id, gateway.secret);
    let settings = Settings {
        clock: kw.clock(),
        ready_within: Duration::from_secs(30),
        ..Settings::new(kw.grpc(), credential, "https://keyward.test", "tenants/acme")
    };
    Verifier::connect(settings).await.unwrap()
}

async fn token_from_the_future_is_refused_on_every_interface(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, _) = made_ahead(&kw, &mut admin, AHEAD).await;
    let verifier = gateway(&kw, &mut admin).await;
    let answer = admin.check(&token, &["a"]).await;
    assert_eq!((answer.allowed, answer.outcome()), (false, Outcome::InvalidToken));
    assert!(!admin.is_active(&token).await);
    let own = kw.admin_credential();
    let answer = kw.post_as(own, "/oauth2/introspect", &[("token", &token)]).await;
    assert_eq!(answer.body, "{\"active\":false}");
    assert_eq!(verifier.verify(&token), Err(Refusal::NotYetValid));
    // Also as the caller's own token.
    let mut bearer = Admin::with_token(&kw.grpc(), &token).await;
    let request = tokens::IntrospectTokenRequest { token: token.clone() };
    let status = bearer.tokens.introspect_token(request).await.unwrap_err();
    assert_eq!(reason(&status), "UNAUTHENTICATED");
    // The verifier refuses a token that it accepted before its clock was set back.
    kw.clock().set_ahead(AHEAD);
    let found = verifier.verify(&token).unwrap();
    kw.clock().set_back(AHEAD);
    assert_eq!(verifier.recheck(&found), Err(Refusal::NotYetValid));
}

async fn token_from_the_future_can_be_revoked(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, _) = made_ahead(&kw, &mut admin, AHEAD).await;
    let request = tokens::RevokeTokenRequest { token: token.clone() };
    admin.tokens.revoke_token(request).await.unwrap();
    kw.advance(3 * 3600);
    kw.server().service.feeds.purge().await.unwrap();
    kw.clock().set_ahead(REST);
    let answer = kw.admin().await.check(&token, &["a"]).await;
    assert_eq!(answer.outcome(), Outcome::Revoked, "by its time it is revoked still");
}

/// When the time in such tokens comes, an offline verifier must still know the revocation.
async fn revocation_covers_tokens_of_a_clock_that_was_ahead(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, credential) = made_ahead(&kw, &mut admin, AHEAD).await;
    let name = credential.name.clone();
    let request = tokens::RevokeTokensRequest { name, ..Default::default() };
    admin.tokens.revoke_tokens(request).await.unwrap();
    let id = jsonwebtoken::dangerous::insecure_decode::<Claims>(&token).unwrap().claims;
    kw.advance(3 * 3600);
    kw.server().service.feeds.purge().await.unwrap();
    kw.advance(REST.as_secs());
    let mut admin = kw.admin().await;
    let verifier = gateway(&kw, &mut admin).await;
    assert_eq!(verifier.verify(&token), Err(Refusal::Revoked));
    assert!(kw.server().service.revocations().index().revokes(&id.revocation_keys()));
    // After those tokens have expired, the revocation is dropped.
    kw.advance(3 * 3600);
    kw.server().service.feeds.purge().await.unwrap();
    assert!(!kw.server().service.revocations().index().revokes(&id.revocation_keys()));
}

async fn last_use_from_the_future_is_replaced_by_the_next(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    kw.clock().set_ahead(AHEAD);
    crm.token(&kw.grpc()).await;
    kw.server().service.usage.write().await.unwrap();
    kw.clock().set_back(AHEAD);
    kw.advance(60);
    crm.token(&kw.grpc()).await;
    kw.server().service.usage.write().await.unwrap();
    let request = pb::GetApplicationRequest { name: CRM.to_owned() };
    let read = kw.admin().await.applications.get_application(request).await.unwrap();
    let used = read.into_inner().application.unwrap().last_use_time.unwrap();
    assert_eq!(used.seconds, kw.now().as_second());
}

async fn token_of_a_clock_slightly_ahead_is_accepted(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, _) = made_ahead(&kw, &mut admin, Duration::from_mins(1)).await;
    assert!(admin.check(&token, &["a"]).await.allowed, "clocks of replicas differ");
}

//! Tokens and times that a wrong clock wrote: a server whose clock was ahead is put right, and
//! nothing of what it said then is trusted for as long as its clock was wrong.

use std::time::Duration;

use keyward::internals::keys::Claims;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use keyward::verifier::{Access, Refusal, Settings, Verifier};

use crate::harness::{Admin, Backend, Keyward, on_both_databases, reason};

on_both_databases!(
    token_of_a_clock_ahead_is_refused_on_every_face_once_the_clock_is_right,
    token_of_a_clock_ahead_can_be_revoked,
    revocation_lasts_as_long_as_the_tokens_of_a_clock_that_was_ahead,
    last_use_by_a_clock_ahead_gives_way_to_the_next_one,
    token_of_a_clock_a_little_ahead_is_taken,
);

const AHEAD: Duration = Duration::from_hours(40 * 24);
/// What is left of that after three hours.
const REST: Duration = Duration::from_hours(40 * 24 - 3);
const CRM: &str = "tenants/acme/applications/crm";

/// A token that was made while the clock was ahead, which was taken then.
async fn made_ahead(kw: &Keyward, admin: &mut Admin, by: Duration) -> (String, pb::Credential) {
    let (credential, crm) = admin.acme().await;
    kw.clock().set_ahead(by);
    let token = crm.token(&kw.grpc()).await;
    let mut then = kw.admin().await;
    for _ in 0..3 {
        // A signature that was found right is remembered: that must not help it.
        assert!(then.check(&token, &["a"]).await.allowed, "it is good by that clock");
    }
    // The servers write their time down as they go.
    assert_eq!(kw.ops("/readyz").await, 200);
    kw.clock().set_back(by);
    (token, credential)
}

async fn gateway(kw: &Keyward, admin: &mut Admin) -> Verifier {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&application.name, Kind::ClientSecret).await;
    let access = Access::client_secret(gateway.client_id, gateway.secret);
    let settings = Settings {
        clock: kw.clock(),
        ready_within: Duration::from_secs(30),
        ..Settings::new(kw.grpc(), access, "https://keyward.test", "tenants/acme")
    };
    Verifier::connect(settings).await.unwrap()
}

async fn token_of_a_clock_ahead_is_refused_on_every_face_once_the_clock_is_right(backend: Backend) {
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
    // As a caller's own token too.
    let mut bearer = Admin::with_token(&kw.grpc(), &token).await;
    let request = tokens::IntrospectTokenRequest { token: token.clone() };
    let status = bearer.tokens.introspect_token(request).await.unwrap_err();
    assert_eq!(reason(&status), "UNAUTHENTICATED");
    // What the verifier found good before its clock went back it finds so no more.
    kw.clock().set_ahead(AHEAD);
    let found = verifier.verify(&token).unwrap();
    kw.clock().set_back(AHEAD);
    assert_eq!(verifier.recheck(&found), Err(Refusal::NotYetValid));
}

async fn token_of_a_clock_ahead_can_be_revoked(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, _) = made_ahead(&kw, &mut admin, AHEAD).await;
    let request = tokens::RevokeTokenRequest { token: token.clone() };
    admin.tokens.revoke_token(request).await.unwrap();
    kw.advance(3 * 3600);
    kw.server().service.purge_revocations().await.unwrap();
    kw.clock().set_ahead(REST);
    let answer = kw.admin().await.check(&token, &["a"]).await;
    assert_eq!(answer.outcome(), Outcome::Revoked, "by its time it is revoked still");
}

/// When the time comes that such tokens name, an offline verifier must know of it still.
async fn revocation_lasts_as_long_as_the_tokens_of_a_clock_that_was_ahead(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, credential) = made_ahead(&kw, &mut admin, AHEAD).await;
    let name = credential.name.clone();
    let request = tokens::RevokeTokensRequest { name, ..Default::default() };
    admin.tokens.revoke_tokens(request).await.unwrap();
    let id = jsonwebtoken::dangerous::insecure_decode::<Claims>(&token).unwrap().claims;
    kw.advance(3 * 3600);
    kw.server().service.purge_revocations().await.unwrap();
    kw.advance(REST.as_secs());
    let mut admin = kw.admin().await;
    let verifier = gateway(&kw, &mut admin).await;
    assert_eq!(verifier.verify(&token), Err(Refusal::Revoked));
    assert!(kw.server().service.revocations().index().revokes(&id.minted()));
    // Once those tokens have ended, it is forgotten.
    kw.advance(3 * 3600);
    kw.server().service.purge_revocations().await.unwrap();
    assert!(!kw.server().service.revocations().index().revokes(&id.minted()));
}

async fn last_use_by_a_clock_ahead_gives_way_to_the_next_one(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    kw.clock().set_ahead(AHEAD);
    crm.token(&kw.grpc()).await;
    kw.server().service.write_usage().await.unwrap();
    kw.clock().set_back(AHEAD);
    kw.advance(60);
    crm.token(&kw.grpc()).await;
    kw.server().service.write_usage().await.unwrap();
    let request = pb::GetApplicationRequest { name: CRM.to_owned() };
    let read = kw.admin().await.applications.get_application(request).await.unwrap();
    let used = read.into_inner().application.unwrap().last_use_time.unwrap();
    assert_eq!(used.seconds, kw.now().as_second());
}

async fn token_of_a_clock_a_little_ahead_is_taken(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (token, _) = made_ahead(&kw, &mut admin, Duration::from_mins(1)).await;
    assert!(admin.check(&token, &["a"]).await.allowed, "clocks of replicas differ");
}

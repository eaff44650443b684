//! Revocation of a key after a compromise.

use std::time::Duration;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::signing_key::State::{Active, Next, Revoked};
use keyward::verifier::{Refusal, Settings, Verifier, VerifierCredential};

use super::{
    NOTICE, events, jwks, kid, list, maintain, name, retire, revoke, rotate, signer, states,
};
use crate::harness::{
    Admin, Backend, Keyward, RedisServer, on_both_databases, question, reason, until,
};

const PATIENCE: Duration = Duration::from_secs(30);

on_both_databases!(
    revoked_key_is_refused_at_once_by_its_server,
    verifier_refuses_revoked_key_and_accepts_the_new_one,
    next_key_takes_over_from_a_revoked_one,
    replacement_of_a_revoked_key_was_always_published,
    revoked_next_key_is_withdrawn,
    revoking_twice_changes_nothing,
);

async fn revoked_key_is_refused_at_once_by_its_server(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    // The second time it is in the cache of verified tokens.
    for _ in 0..3 {
        assert!(admin.check(&token, &["a"]).await.allowed);
    }
    let old = kid(&token);
    let answer = revoke(&mut admin, &old).await;
    assert_eq!(answer.signing_key.as_ref().unwrap().state(), Revoked);
    assert_eq!(answer.revocation_bound.unwrap().seconds, 5);
    let new = answer.replacement.unwrap();
    let published = jwks(&kw).await;
    assert_eq!(
        (new.state(), &published[0], published.len()),
        (Active, &new.name[12..].to_owned(), 2)
    );

    let status =
        admin.keys.list_signing_keys(pb::ListSigningKeysRequest::default()).await.unwrap_err();
    assert_eq!(reason(&status), "UNAUTHENTICATED", "the administrator's token was of that key");
    let mut admin = kw.admin().await;
    assert_eq!(name(&kid(&admin.token)), new.name);
    assert!(!admin.check(&token, &["a"]).await.allowed);
    assert!(!admin.is_active(&token).await);
    let fresh = crm.token(&kw.grpc()).await;
    for (token, active) in [(&token, false), (&fresh, true)] {
        let answer = reqwest::Client::new()
            .post(kw.url("/oauth2/introspect"))
            .basic_auth(&crm.client_id, Some(&crm.secret))
            .form(&[("token", token)])
            .send()
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["active"], active);
    }
    assert!(admin.check(&fresh, &["a"]).await.allowed);
    let events = events(&mut admin).await;
    let detail = "all tokens that it signed were revoked: stolen";
    let expected = ["RotateSigningKey", "RotateSigningKey", "RevokeSigningKey"];
    assert_eq!(events[..3].iter().map(|(action, _)| action).collect::<Vec<_>>(), expected);
    assert!(events[0].1.contains("published as the next key"), "{}", events[0].1);
    assert_eq!(events[2].1, detail);

    kw.restart().await;
    let mut admin = kw.admin().await;
    assert!(!admin.check(&token, &["a"]).await.allowed);
    assert!(admin.check(&fresh, &["a"]).await.allowed);
    // The entry of the list ends, but the key stays revoked.
    kw.advance(10 * 86_400);
    maintain(&kw).await;
    kw.restart().await;
    assert_eq!((states(&kw).await, jwks(&kw).await.len()), (vec![Next, Active, Revoked], 2));
}

async fn gateway(kw: &Keyward, admin: &mut Admin) -> Verifier {
    Verifier::connect(gateway_settings(kw, admin).await).await.unwrap()
}

async fn gateway_settings(kw: &Keyward, admin: &mut Admin) -> Settings {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let credential = admin.credential(&application.name, Kind::ClientSecret).await.1;
    let access = VerifierCredential::client_secret(credential.client_id, credential.secret);
    Settings {
        clock: kw.clock(),
        ready_within: PATIENCE,
        max_lag: PATIENCE,
        ..Settings::new(kw.grpc(), access, "https://keyward.test", "tenants/acme")
    }
}

async fn verifier_refuses_revoked_key_and_accepts_the_new_one(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let verifier = gateway(&kw, &mut admin).await;
    let token = crm.token(&kw.grpc()).await;
    let accepted = verifier.verify(&token).unwrap();
    revoke(&mut admin, &kid(&token)).await;
    until("the verifier refuses", async || verifier.verify(&token).is_err()).await;
    until("the list has the key", async || {
        verifier.recheck(&accepted) == Err(Refusal::Revoked)
            || verifier.recheck(&accepted) == Err(Refusal::UnknownKey)
    })
    .await;
    let fresh = crm.token(&kw.grpc()).await;
    until("the verifier has the new key", async || verifier.verify(&fresh).is_ok()).await;
    assert!(matches!(verifier.verify(&token), Err(Refusal::UnknownKey | Refusal::Revoked)));
}

async fn next_key_takes_over_from_a_revoked_one(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    let next = rotate(&mut admin).await.unwrap().name;
    let answer = revoke(&mut admin, &first).await;
    assert_eq!(answer.replacement.unwrap().name, next, "verifiers know it already");
    assert_eq!(name(&signer(&kw, &crm).await), next);
    assert_eq!(states(&kw).await, [Next, Active, Revoked]);
}

/// Whatever happened before, a key signs after a revocation that was published before it.
async fn replacement_of_a_revoked_key_was_always_published(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    for step in ["new", "restarted", "rotated", "next key revoked", "next key retired"] {
        match step {
            "restarted" => kw.restart().await,
            "rotated" => {
                kw.advance(NOTICE);
                rotate(&mut kw.admin().await).await.unwrap();
                // A second more: a key that is revoked at the moment when it would begin to sign
                // has not signed, and the one before it goes on.
                kw.advance(61);
                maintain(&kw).await;
            }
            "next key revoked" => {
                revoke(&mut kw.admin().await, jwks(&kw).await.last().unwrap()).await;
            }
            "next key retired" => {
                retire(&mut kw.admin().await, jwks(&kw).await.last().unwrap()).await.unwrap();
            }
            _ => {}
        }
        // What a verifier has that reads the set now, and not again.
        let seen = jwks(&kw).await;
        let answer = revoke(&mut kw.admin().await, &signer(&kw, &crm).await).await;
        let new = answer.replacement.unwrap().name;
        assert_eq!(name(&signer(&kw, &crm).await), new, "{step}");
        assert!(seen.iter().any(|kid| name(kid) == new), "{step}: no verifier knows {new}");
    }
}

async fn revoked_next_key_is_withdrawn(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    let next = rotate(&mut admin).await.unwrap();
    assert_eq!(next.state(), Next);
    let answer = revoke(&mut admin, &next.name[12..]).await;
    assert!(answer.replacement.is_none());
    kw.advance(3600);
    assert_eq!(signer(&kw, &crm).await, first);
    let published = jwks(&kw).await;
    assert_eq!((published.len(), &published[0]), (2, &first));
    assert!(!next.name.ends_with(&published[1]), "another one is the next key");
}

async fn revoking_twice_changes_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    revoke(&mut admin, &first).await;
    let mut admin = kw.admin().await;
    let before = (list(&mut admin).await, events(&mut admin).await);
    let again = revoke(&mut admin, &first).await;
    assert_eq!(again.signing_key.unwrap().state(), Revoked);
    assert!(again.replacement.is_none());
    assert_eq!((list(&mut admin).await, events(&mut admin).await), before);
}

/// A replica with a warm cache refuses the tokens of a key that another one revoked, and signs with
/// the new one.
async fn replica_follows(redis: Option<&str>) {
    let replicas: [Keyward; 2] = Keyward::replicas(redis, &[]).await;
    let mut admin = replicas[0].admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&replicas[0].grpc()).await;
    let caller = replicas[1].admin_credential();
    let mut other = Admin::new(replicas[1].grpc(), caller).await;
    let verifier = gateway(&replicas[1], &mut admin).await;
    for _ in 0..3 {
        assert!(other.check(&token, &["a"]).await.allowed);
    }
    verifier.verify(&token).unwrap();
    let new = revoke(&mut admin, &kid(&token)).await.replacement.unwrap().name;
    // The caller's own token is of that key too.
    let refused = async || {
        let mut other = other.clone();
        let list = other.keys.list_signing_keys(pb::ListSigningKeysRequest::default()).await;
        list.is_err_and(|status| reason(&status) == "UNAUTHENTICATED")
    };
    until("the replica refuses", refused).await;
    let mut other = Admin::new(replicas[1].grpc(), caller).await;
    assert_eq!(name(&kid(&other.token)), new, "it signs with the new key");
    assert!(!other.check(&token, &["a"]).await.allowed);
    until("its key set is the new one", async || {
        jwks(&replicas[1]).await.first().is_some_and(|kid| *kid == new[12..])
    })
    .await;
    until("the verifier refuses", async || verifier.verify(&token).is_err()).await;
    let fresh = crm.token(&replicas[1].grpc()).await;
    until("the verifier accepts", async || verifier.verify(&fresh).is_ok()).await;
}

/// When the promised bound has passed since the revocation, no cache accepts a token of the key: not
/// the server's own, not another replica's, not a verifier's.
async fn nowhere_accepted_after_the_bound(redis: Option<&str>) {
    let replicas: [Keyward; 2] = Keyward::replicas(redis, &[]).await;
    let mut admin = replicas[0].admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&replicas[0].grpc()).await;
    let mut other = Admin::new(replicas[1].grpc(), replicas[1].admin_credential()).await;
    let settings = gateway_settings(&replicas[1], &mut admin).await;
    let max_lag = Settings::new("", settings.credential.clone(), "", "").max_lag;
    let verifier = Verifier::connect(Settings { max_lag, ..settings }).await.unwrap();
    for _ in 0..3 {
        assert!(admin.check(&token, &["a"]).await.allowed);
        assert!(other.check(&token, &["a"]).await.allowed);
        until("the verifier accepts", async || verifier.verify(&token).is_ok()).await;
    }
    let bound = revoke(&mut admin, &kid(&token)).await.revocation_bound.unwrap();
    assert_eq!(bound.seconds, 5);
    replicas[0].advance(5);
    let refused = verifier.verify(&token);
    assert!(refused.is_err(), "{refused:?}");
    for caller in [&mut admin, &mut other] {
        let question = question(&token, &["a"]);
        let answer = caller.access.check_access(question).await;
        assert!(answer.as_ref().is_ok_and(|answer| !answer.get_ref().allowed) || answer.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_accepted_nowhere_after_the_bound_without_redis() {
    nowhere_accepted_after_the_bound(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_accepted_nowhere_after_the_bound_with_redis() {
    let redis = RedisServer::start();
    nowhere_accepted_after_the_bound(Some(&redis.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_refuses_a_revoked_key_without_redis() {
    replica_follows(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_refuses_a_revoked_key_with_redis() {
    let redis = RedisServer::start();
    replica_follows(Some(&redis.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_database_does_not_bring_a_revoked_key_back() {
    let [kw] = Keyward::replicas(None, &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let old = signer(&kw, &crm).await;
    kw.sql("create table kept as select * from signing_keys", None).await.unwrap();
    revoke(&mut admin, &old).await;
    // The table as it was.
    kw.sql(
        "delete from signing_keys; insert into signing_keys select * from kept; \
         delete from signing_key_history",
        None,
    )
    .await
    .unwrap();
    kw.server().service.signing.refresh().await.unwrap();
    assert!(!jwks(&kw).await.contains(&old));
}

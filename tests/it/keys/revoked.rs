//! Revocation of a key after a compromise.

use std::time::Duration;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::signing_key::State::{Active, Next, Revoked};
use keyward::verifier::{Refusal, Settings, Verifier, VerifierCredential};

use super::{events, jwks, kid, list, maintain, name, revoke, rotate, signer, states};
use crate::harness::{Admin, Backend, Keyward, RedisServer, on_both_databases, reason, until};

const PATIENCE: Duration = Duration::from_secs(30);

on_both_databases!(
    revoked_key_is_refused_at_once_by_its_server,
    verifier_refuses_revoked_key_and_accepts_the_new_one,
    next_key_takes_over_from_a_revoked_one,
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
    assert_eq!((new.state(), jwks(&kw).await), (Active, vec![new.name[12..].to_owned()]));

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
    assert_eq!(events[0].0, "RotateSigningKey");
    let detail = "all tokens that it signed were revoked: stolen";
    assert_eq!(events[1], ("RevokeSigningKey".to_owned(), detail.to_owned()));

    kw.restart().await;
    let mut admin = kw.admin().await;
    assert!(!admin.check(&token, &["a"]).await.allowed);
    assert!(admin.check(&fresh, &["a"]).await.allowed);
    // The entry of the list ends, but the key stays revoked.
    kw.advance(10 * 86_400);
    maintain(&kw).await;
    kw.restart().await;
    assert_eq!((states(&kw).await, jwks(&kw).await.len()), (vec![Active, Revoked], 1));
}

async fn gateway(kw: &Keyward, admin: &mut Admin) -> Verifier {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let credential = admin.credential(&application.name, Kind::ClientSecret).await.1;
    let access = VerifierCredential::client_secret(credential.client_id, credential.secret);
    let settings = Settings {
        clock: kw.clock(),
        ready_within: PATIENCE,
        max_lag: PATIENCE,
        ..Settings::new(kw.grpc(), access, "https://keyward.test", "tenants/acme")
    };
    Verifier::connect(settings).await.unwrap()
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
    assert_eq!(states(&kw).await, [Active, Revoked]);
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
    assert_eq!((signer(&kw, &crm).await, jwks(&kw).await), (first.clone(), vec![first]));
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
    until("its key set is the new one", async || jwks(&replicas[1]).await == [&new[12..]]).await;
    until("the verifier refuses", async || verifier.verify(&token).is_err()).await;
    let fresh = crm.token(&replicas[1].grpc()).await;
    until("the verifier accepts", async || verifier.verify(&fresh).is_ok()).await;
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

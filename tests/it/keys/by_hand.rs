//! Rotation and retirement by an administrator.

use keyward::proto::admin as pb;
use keyward::proto::admin::signing_key::State::{Active, Next, Removed, Retiring};

use super::{DAY, NOTICE, events, jwks, list, maintain, name, retire, rotate, signer, states};
use crate::harness::{Backend, Keyward, on_both_databases, reason};

on_both_databases!(
    rotation_waits_for_the_notice_and_refuses_a_second,
    known_next_key_signs_a_minute_after_a_rotation,
    next_key_of_the_schedule_is_brought_forward,
    repeated_rotations_leave_the_key_set_bounded,
    withdrawn_next_keys_leave_the_key_set_at_once,
    active_key_retires_when_a_next_key_is_ready,
    retired_next_key_never_signs,
    invalid_key_names_are_refused,
    metrics_show_age_states_and_rotations,
);

async fn rotation_waits_for_the_notice_and_refuses_a_second(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    let next = rotate(&mut admin).await.unwrap();
    assert_eq!(next.state(), Next);
    let at = kw.now().as_second() + i64::try_from(NOTICE).unwrap();
    assert_eq!(next.activate_time.unwrap().seconds, at);
    assert_eq!(jwks(&kw).await.len(), 2, "published at once");
    let again = rotate(&mut admin).await.unwrap_err();
    assert_eq!(reason(&again), "ROTATION_PENDING");
    assert!(again.message().contains(&next.name), "{}", again.message());
    kw.advance(NOTICE - 1);
    assert_eq!(signer(&kw, &crm).await, first);
    kw.advance(1);
    assert_eq!(name(&signer(&kw, &crm).await), next.name);
    assert_eq!(states(&kw).await, [Active, Retiring]);
    let mut admin = kw.admin().await;
    assert_eq!(events(&mut admin).await[0].0, "RotateSigningKey");
    // No server has made the next key yet.
    let next = rotate(&mut admin).await.unwrap();
    let at = kw.now().as_second() + i64::try_from(NOTICE).unwrap();
    assert_eq!(next.activate_time.unwrap().seconds, at);
}

async fn known_next_key_signs_a_minute_after_a_rotation(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let first = signer(&kw, &crm).await;
    let waiting = list(&mut kw.admin().await).await[0].clone();
    assert_eq!((waiting.state(), waiting.activate_time), (Next, None), "no time is set");
    kw.advance(NOTICE);
    let next = rotate(&mut kw.admin().await).await.unwrap();
    assert_eq!(next.name, waiting.name);
    assert_eq!(next.activate_time.unwrap().seconds, kw.now().as_second() + 60);
    kw.advance(59);
    assert_eq!(signer(&kw, &crm).await, first, "until every server knows");
    kw.advance(1);
    assert_eq!(name(&signer(&kw, &crm).await), next.name);
}

async fn repeated_rotations_leave_the_key_set_bounded(backend: Backend) {
    let kw = backend.start().await;
    let (mut rotated, mut largest) = (0, 0);
    for _ in 0..120 {
        kw.advance(60);
        maintain(&kw).await;
        let mut admin = kw.admin().await;
        rotated += i32::from(rotate(&mut admin).await.is_ok());
        let again = rotate(&mut admin).await.unwrap_err();
        assert_eq!(reason(&again), "ROTATION_PENDING");
        largest = largest.max(jwks(&kw).await.len());
    }
    assert!(rotated >= 9, "one each ten minutes: {rotated}");
    // The next key, the active one, and those that stopped within the last 70 minutes.
    assert_eq!(largest, 10);
}

async fn withdrawn_next_keys_leave_the_key_set_at_once(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let active = jwks(&kw).await[0].clone();
    for _ in 0..5 {
        let published = jwks(&kw).await;
        let [_, next] = published.as_slice() else { panic!("{published:?}") };
        retire(&mut admin, next).await.unwrap();
        let left = jwks(&kw).await;
        assert!(left[0] == active && !left.contains(next) && left.len() == 2, "{left:?}");
    }
}

async fn next_key_of_the_schedule_is_brought_forward(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    kw.advance(29 * DAY);
    maintain(&kw).await;
    let planned = list(&mut kw.admin().await).await[0].clone();
    let day = i64::try_from(DAY).unwrap();
    assert_eq!(planned.activate_time.unwrap().seconds, kw.now().as_second() + day);
    let moved = rotate(&mut kw.admin().await).await.unwrap();
    assert_eq!(moved.name, planned.name);
    assert_eq!(moved.activate_time.unwrap().seconds, kw.now().as_second() + 60);
    kw.advance(60);
    assert_eq!(name(&signer(&kw, &crm).await), moved.name);
}

async fn active_key_retires_when_a_next_key_is_ready(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    kw.advance(NOTICE - 1);
    let early = retire(&mut admin, &first).await.unwrap_err();
    assert_eq!(reason(&early), "NO_SUCCESSOR");
    kw.advance(1);
    let token = crm.token(&kw.grpc()).await;
    let retired = retire(&mut kw.admin().await, &first).await.unwrap();
    assert_eq!(retired.retire_time.unwrap().seconds, kw.now().as_second() + 60);
    assert_eq!(signer(&kw, &crm).await, first, "until every server knows");
    kw.advance(60);
    assert_ne!(signer(&kw, &crm).await, first);
    let mut admin = kw.admin().await;
    assert!(admin.is_active(&token).await, "its tokens stay valid");
    assert_eq!(reason(&retire(&mut admin, &first).await.unwrap_err()), "KEY_ENDED");
}

async fn retired_next_key_never_signs(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    let next = rotate(&mut admin).await.unwrap().name;
    let retired = retire(&mut admin, next.split_once('/').unwrap().1).await.unwrap();
    assert_eq!(retired.state(), Removed, "no server can have signed with it");
    kw.advance(2 * NOTICE);
    assert_eq!(signer(&kw, &crm).await, first);
    kw.restart().await;
    assert_eq!(signer(&kw, &crm).await, first);
    let published = jwks(&kw).await;
    assert_eq!((published.len(), &published[0]), (2, &first));
    assert!(!next.ends_with(&published[1]), "another one is the next key");
}

async fn invalid_key_names_are_refused(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    for bad in ["", "signingKeys/", "signingKeys/a b", "keys/a", "signingKeys/a/b"] {
        let request = pb::RetireSigningKeyRequest { name: bad.to_owned() };
        let status = admin.keys.retire_signing_key(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{bad}");
        let request = pb::RevokeSigningKeyRequest { name: bad.to_owned(), reason: "x".repeat(257) };
        let status = admin.keys.revoke_signing_key(request).await.unwrap_err();
        assert!(status.message().contains("name") && status.message().contains("reason"));
    }
    assert_eq!(reason(&retire(&mut admin, "unknown").await.unwrap_err()), "NOT_FOUND");
}

async fn metrics_show_age_states_and_rotations(backend: Backend) {
    let kw = backend.start().await;
    kw.advance(DAY);
    rotate(&mut kw.admin().await).await.unwrap();
    let url = format!("http://{}/metrics", kw.server().ops);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    for line in [
        "keyward_signing_key_age_seconds 86400.0",
        "keyward_signing_keys{state=\"active\"} 1",
        "keyward_signing_keys{state=\"next\"} 1",
        "keyward_signing_keys{state=\"retiring\"} 0",
        "keyward_signing_key_rotations_total{result=\"requested\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_next_keys_leave_the_key_set_of_other_servers() {
    let [kw, other]: [Keyward; 2] = Keyward::replicas(None, &[]).await;
    maintain(&other).await;
    let mut admin = kw.admin().await;
    for _ in 0..3 {
        retire(&mut admin, jwks(&kw).await.last().unwrap()).await.unwrap();
        maintain(&kw).await;
        // It reads the keys when the withdrawn one may have been deleted.
        maintain(&other).await;
        assert_eq!(jwks(&other).await, jwks(&kw).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_by_hand_at_once_make_one_key() {
    let replicas: [Keyward; 2] = Keyward::replicas(None, &[]).await;
    for round in 1..=10 {
        let (mut one, mut other) = (replicas[0].admin().await, replicas[1].admin().await);
        let (a, b) = tokio::join!(rotate(&mut one), rotate(&mut other));
        let refused = [a, b].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert_eq!(refused.len(), 1, "round {round}");
        assert_eq!(reason(&refused[0]), "ROTATION_PENDING");
        for kw in &replicas {
            maintain(kw).await;
        }
        assert_eq!(jwks(&replicas[0]).await, jwks(&replicas[1]).await);
        replicas[0].advance(NOTICE);
        assert_eq!(states(&replicas[1]).await.len(), round + 1);
    }
}

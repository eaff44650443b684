//! Rotation and retirement by an administrator.

use keyward::proto::admin as pb;
use keyward::proto::admin::signing_key::State::{Active, Next, Retiring};

use super::{DAY, NOTICE, events, jwks, list, maintain, name, retire, rotate, signer, states};
use crate::harness::{Backend, Keyward, on_both_databases, reason};

on_both_databases!(
    rotation_waits_for_the_notice_and_refuses_a_second,
    next_key_of_the_schedule_is_brought_forward,
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
    rotate(&mut admin).await.unwrap();
}

async fn next_key_of_the_schedule_is_brought_forward(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    kw.advance(29 * DAY);
    maintain(&kw).await;
    let planned = list(&mut kw.admin().await).await[0].clone();
    kw.advance(60);
    let moved = rotate(&mut kw.admin().await).await.unwrap();
    assert_eq!(moved.name, planned.name);
    let earliest = planned.create_time.unwrap().seconds + i64::try_from(NOTICE).unwrap();
    assert_eq!(moved.activate_time.unwrap().seconds, earliest, "not before its notice");
    kw.advance(NOTICE - 60);
    assert_eq!(name(&signer(&kw, &crm).await), moved.name);
}

async fn active_key_retires_when_a_next_key_is_ready(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let first = signer(&kw, &crm).await;
    let alone = retire(&mut admin, &first).await.unwrap_err();
    assert_eq!(reason(&alone), "NO_SUCCESSOR");
    assert!(alone.message().contains("rotate first"), "{}", alone.message());
    kw.advance(29 * DAY);
    maintain(&kw).await;
    let early = retire(&mut kw.admin().await, &first).await.unwrap_err();
    assert_eq!(reason(&early), "NO_SUCCESSOR");
    kw.advance(NOTICE);
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
    assert_eq!(retired.state(), Retiring);
    kw.advance(2 * NOTICE);
    assert_eq!(signer(&kw, &crm).await, first);
    kw.restart().await;
    assert_eq!(signer(&kw, &crm).await, first);
    kw.advance(DAY);
    maintain(&kw).await;
    assert_eq!(jwks(&kw).await, [first]);
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

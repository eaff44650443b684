//! Limits that several replicas share.

use futures_util::future::join_all;
use keyward::proto::access::CheckAccessRequest;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;

use crate::harness::{Admin, Credential, Keyward, RedisServer, mask, question, reason};

const CRM: &str = "tenants/acme/applications/crm";

async fn limit(admin: &mut Admin, limits: Option<pb::Limits>) {
    let application = pb::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
}

/// How many of the concurrent requests, spread over the replicas, are allowed.
async fn allowed(replicas: &[Keyward], token: &str, each: usize) -> usize {
    let asked = replicas.iter().map(async |replica| {
        let mut admin = replica.admin().await;
        let mut allowed = 0;
        for _ in 0..each {
            let answer = admin.check(token, &["a"]).await;
            let expected = if answer.allowed { Outcome::Allowed } else { Outcome::RateLimited };
            assert_eq!(answer.outcome(), expected);
            allowed += usize::from(answer.allowed);
        }
        allowed
    });
    join_all(asked).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_is_shared_by_three_replicas() {
    let redis = RedisServer::start();
    let replicas: [Keyward; 3] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = replicas[0].admin().await;
    let (_, crm) = admin.acme().await;
    limit(&mut admin, Some(pb::Limits { requests: 40, ..Default::default() })).await;
    let token = crm.token(&replicas[1].grpc()).await;
    for _ in 0..3 {
        assert_eq!(allowed(&replicas, &token, 40).await, 40);
        replicas[0].advance(61);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limited_check_costs_one_redis_command() {
    const CHECKS: u64 = 200;
    let redis = RedisServer::start();
    // The background communication of replicas is disabled.
    let quiet = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [kw] = Keyward::replicas(Some(&redis.url()), &quiet).await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let commands = || kw.server().redis().unwrap().commands().get();
    // Each replica registers itself every two seconds.
    let most_beside = 20;

    let before = commands();
    for _ in 0..CHECKS {
        assert!(admin.check(&token, &["a"]).await.allowed);
    }
    assert!(commands() - before <= most_beside, "{}", commands() - before);

    let limits = pb::Limits { requests: 1_000_000, ..Default::default() };
    limit(&mut admin, Some(limits)).await;
    let change =
        pb::Credential { name: credential.name, limits: Some(limits), ..Default::default() };
    let request =
        pb::UpdateCredentialRequest { credential: Some(change), update_mask: mask(&["limits"]) };
    admin.credentials.update_credential(request).await.unwrap();
    // The first check may send the script.
    assert_eq!(admin.check(&token, &["a"]).await.limits.len(), 2);
    let before = commands();
    for _ in 0..CHECKS {
        assert!(admin.check(&token, &["a"]).await.allowed);
    }
    let spent = commands() - before;
    assert!((CHECKS..=CHECKS + most_beside).contains(&spent), "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_key_by_a_key_costs_one_redis_command() {
    const CHECKS: u64 = 200;
    let redis = RedisServer::start();
    let quiet = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [kw] = Keyward::replicas(Some(&redis.url()), &quiet).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let gateway = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&gateway.name, Kind::ApiKey).await;
    let mut gateway = Admin::with_token(&kw.grpc(), &gateway.secret).await;
    let commands = || kw.server().redis().unwrap().commands().get();
    // Each replica registers itself every two seconds.
    let most_beside = 20;
    let check = async |gateway: &mut Admin| {
        let source_address = "192.0.2.7".to_owned();
        let request = CheckAccessRequest { source_address, ..question(&key.secret, &["a"]) };
        let answer = gateway.access.check_access(request).await.unwrap().into_inner();
        assert!(answer.allowed);
        answer.limits.len()
    };
    // The first use of each key checks the source's failure budget, asks whether another replica
    // verified the key, and stores that. The script is sent, too.
    let before = commands();
    check(&mut gateway).await;
    let spent = commands() - before;
    assert!((6..=6 + 1 + 2).contains(&spent), "{spent}");

    let before = commands();
    for _ in 0..CHECKS {
        assert_eq!(check(&mut gateway).await, 0);
    }
    assert!(commands() - before <= most_beside, "{}", commands() - before);

    limit(&mut admin, Some(pb::Limits { requests: 1_000_000, ..Default::default() })).await;
    assert_eq!(check(&mut gateway).await, 1);
    let before = commands();
    for _ in 0..CHECKS {
        check(&mut gateway).await;
    }
    let spent = commands() - before;
    assert!((CHECKS..=CHECKS + most_beside).contains(&spent), "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_are_counted_over_all_replicas() {
    const BUDGET: usize = 5;
    let redis = RedisServer::start();
    let settings = [("secrets.wrong_secrets", "5"), ("secrets.hash_wait", "1m")];
    let replicas: [Keyward; 2] = Keyward::replicas(Some(&redis.url()), &settings).await;
    let mut admin = replicas[0].admin().await;
    let (_, crm) = admin.acme().await;
    let wrong = admin.credential(CRM, Kind::ClientSecret).await.1.secret;
    let wrong = Credential { secret: wrong, ..crm.clone() };
    for (guess, at) in (0..2 * BUDGET).zip(replicas.iter().cycle()) {
        let reported = reason(&wrong.exchange(&at.grpc(), &[], &[]).await.unwrap_err());
        let expected = if guess < BUDGET { "INVALID_CLIENT" } else { "RATE_LIMITED" };
        assert_eq!(reported, expected, "guess {guess}");
    }
    for at in &replicas {
        let reported = reason(&crm.exchange(&at.grpc(), &[], &[]).await.unwrap_err());
        assert_eq!(reported, "RATE_LIMITED", "also the right secret, from this source");
    }
}

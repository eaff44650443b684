//! A lost feed, and recovery.

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Refusal, Settings, Verifier, WhenLost};
use tokio::net::TcpListener;

use super::{ACME, gateway, is_lost, now, refused, revoke, settings, taken, verifier};
use crate::harness::{Admin, Backend, Credential, Keyward, Proxy, in_time, until};

/// A server, its administrator, acme's application, and a verifier with a proxy that can be cut.
struct Wired {
    kw: Keyward,
    admin: Admin,
    crm: Credential,
    gateway: Credential,
    proxy: Proxy,
}

impl Wired {
    async fn to(kw: Keyward) -> Self {
        let mut admin = kw.admin().await;
        let (_, crm) = admin.acme().await;
        let gateway = gateway(&mut admin).await;
        let proxy = Proxy::to(kw.server().grpc).await;
        Self { kw, admin, crm, gateway, proxy }
    }

    fn settings(&self) -> Settings {
        let server = format!("http://{}", self.proxy.address);
        Settings { max_lag: Duration::from_secs(2), ..settings(&self.kw, &server, &self.gateway) }
    }

    async fn verifier(&self) -> Verifier {
        Verifier::connect(self.settings()).await.unwrap()
    }

    async fn token(&self) -> String {
        self.crm.token(&self.kw.grpc()).await
    }
}

/// Waits until a verifier's data is too old.
async fn lost(verifier: &Verifier) {
    until("it is lost", async || verifier.lag() > Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refused_while_the_feed_is_lost() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let other = wired.token().await;
    revoke(&mut wired.admin, ACME, "").await;
    refused(&verifier, &other, &Refusal::Revoked).await;
    let good = wired.token().await;
    taken(&verifier, &good).await;

    wired.proxy.cut().await;
    wired.kw.advance(2);
    until("its list is older than `max_lag`", async || is_lost(&verifier, &good)).await;
    assert!(verifier.lag() > Duration::from_secs(2));
    assert!(verifier.verify(&good).unwrap_err().is_temporary());
    assert_eq!(verifier.verify(&other), Err(Refusal::Revoked), "that is certain");
    assert_eq!(verifier.verify("x"), Err(Refusal::Malformed), "and so is that");

    // Revocations made meanwhile are known before tokens are accepted again.
    let late = wired.token().await;
    revoke(&mut wired.admin, "tenants/acme/applications/crm", "").await;
    let new = wired.token().await;
    wired.proxy.mend().await;
    taken(&verifier, &new).await;
    assert_eq!(verifier.verify(&good), Err(Refusal::Revoked));
    assert_eq!(verifier.verify(&late), Err(Refusal::Revoked));
    until("its list is current", async || verifier.lag() <= Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuse_after_accepts_tokens_for_its_duration() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let patient =
        Settings { when_lost: WhenLost::RefuseAfter(Duration::from_mins(5)), ..wired.settings() };
    let patient = Verifier::connect(patient).await.unwrap();
    let strict = wired.verifier().await;
    let good = wired.token().await;
    taken(&patient, &good).await;
    wired.proxy.cut().await;
    wired.kw.advance(2);
    until("the strict one refuses", async || is_lost(&strict, &good)).await;
    assert!(patient.verify(&good).is_ok(), "the patient one accepts for five minutes");
    wired.kw.advance(5 * 60);
    until("its time is over", async || is_lost(&patient, &good)).await;
    wired.proxy.mend().await;
    taken(&patient, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connection_counts_as_lost() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let good = wired.token().await;
    taken(&verifier, &good).await;
    // The connection stays open without data, as when a machine loses power.
    wired.proxy.hold();
    until("it is lost", async || is_lost(&verifier, &good)).await;
    revoke(&mut wired.admin, ACME, "").await;
    let new = wired.token().await;
    // Held connections stay held, so the verifier must reconnect.
    wired.proxy.release();
    taken(&verifier, &new).await;
    assert_eq!(verifier.verify(&good), Err(Refusal::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_verifier_resumes_at_its_cursor() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let (old, credential) = {
        let application = "tenants/acme/applications/crm";
        let (made, _) = wired.admin.credential(application, Kind::ClientSecret).await;
        (wired.token().await, made.name)
    };
    revoke(&mut wired.admin, ACME, "").await;
    // Time stands still for this verifier, so it drops nothing.
    let clock = Clock::manual(wired.kw.now());
    let verifier =
        Verifier::connect(Settings { clock: clock.clone(), ..wired.settings() }).await.unwrap();
    assert_eq!(verifier.revocations(), 1);
    wired.proxy.cut().await;
    lost(&verifier).await;
    // At the server the first revocation expires and is purged, so a snapshot would not contain it.
    wired.kw.advance(7200);
    wired.kw.server().service.feeds.purge().await.unwrap();
    let mut admin = wired.kw.admin().await;
    revoke(&mut admin, &credential, "late").await;
    let good = wired.token().await;
    // The clock decides about tokens; the time that has passed decides what is dropped.
    clock.set_ahead(Duration::from_hours(2));
    wired.proxy.mend().await;
    taken(&verifier, &good).await;
    assert_eq!(verifier.revocations(), 2, "known and new ones");
    clock.set_back(Duration::from_hours(2));
    assert_eq!(verifier.verify(&old), Err(Refusal::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_with_an_old_cursor_starts_with_a_snapshot() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    revoke(&mut wired.admin, ACME, "").await;
    let verifier = wired.verifier().await;
    assert_eq!(verifier.revocations(), 1);
    wired.proxy.cut().await;
    lost(&verifier).await;
    revoke(&mut wired.admin, ACME, "").await;
    wired.kw.advance(2 * 3600);
    wired.kw.server().service.feeds.purge().await.unwrap();
    let mut admin = wired.kw.admin().await;
    let revoked = wired.token().await;
    revoke(&mut admin, ACME, "").await;
    let good = wired.token().await;
    wired.proxy.mend().await;
    taken(&verifier, &good).await;
    assert_eq!(verifier.verify(&revoked), Err(Refusal::Revoked));
    assert_eq!(verifier.revocations(), 1, "the one that there is");
    // From there it continues.
    revoke(&mut admin, "tenants/acme/applications/crm", "").await;
    refused(&verifier, &good, &Refusal::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_reconnects_to_a_restarted_server() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let revoked = wired.token().await;
    taken(&verifier, &revoked).await;
    revoke(&mut wired.admin, ACME, "").await;
    wired.kw.restart().await;
    wired.proxy.lead_to(wired.kw.server().grpc).await;
    refused(&verifier, &revoked, &Refusal::Revoked).await;
    let good = wired.token().await;
    taken(&verifier, &good).await;
    let mut admin = wired.kw.admin().await;
    revoke(&mut admin, "tenants/acme/applications/crm", "").await;
    refused(&verifier, &good, &Refusal::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_list_replaces_the_previous_one() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    revoke(&mut wired.admin, ACME, "").await;
    let settings = Settings { max_lag: Duration::from_hours(1), ..wired.settings() };
    let verifier = Verifier::connect(settings).await.unwrap();
    assert_eq!(verifier.revocations(), 1);
    // Lists are distinguished by their names.
    wired.kw.sql("update revocation_feed set id = id || '.1'", None).await.unwrap();
    wired.kw.server().service.revocations().catch_up().await.unwrap();
    for _ in 0..2 {
        revoke(&mut wired.admin, ACME, "").await;
    }
    until("the new list is known", async || verifier.revocations() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_replaces_its_expired_or_revoked_token() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let verifier = verifier(&kw, &gateway).await;
    // The server ends the stream when its token expires.
    kw.advance(1000);
    let token = crm.token(&kw.grpc()).await;
    let mut admin = kw.admin().await;
    revoke(&mut admin, ACME, "").await;
    refused(&verifier, &token, &Refusal::Revoked).await;
    // And when the token is revoked.
    revoke(&mut admin, "tenants/system/applications/gateway", "").await;
    let token = crm.token(&kw.grpc()).await;
    revoke(&mut admin, ACME, "").await;
    refused(&verifier, &token, &Refusal::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_renews_its_token_before_expiry() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&application.name, Kind::ClientSecret).await;
    let verifier = verifier(&kw, &gateway).await;
    let service = &kw.server().service;
    for exchanges in 2..=4 {
        // A token lives for 15 minutes, and is renewed after 12.
        kw.advance(12 * 60);
        let mut admin = kw.admin().await;
        let request = pb::ListApplicationUsageRequest {
            parent: application.name.clone(),
            ..Default::default()
        };
        until("another token is issued", async || {
            service.usage.write().await.unwrap();
            let usage = admin.applications.list_application_usage(request.clone()).await.unwrap();
            usage.into_inner().days[0].exchanges == exchanges
        })
        .await;
        taken(&verifier, &crm.token(&kw.grpc()).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_without_rights_refuses_tokens() {
    let mut wired = Wired::to(Backend::Sqlite.start().await).await;
    let verifier = wired.verifier().await;
    let (_, key) =
        wired.admin.credential("tenants/system/applications/gateway", Kind::ApiKey).await;
    let settings = Settings { credential: super::verifier_credential(&key), ..wired.settings() };
    let with_key = Verifier::connect(settings).await.unwrap();
    let good = wired.token().await;
    taken(&verifier, &good).await;
    taken(&with_key, &good).await;
    let name = "tenants/system/applications/gateway".to_owned();
    let request = pb::DeleteApplicationRequest { name, etag: String::new() };
    wired.admin.applications.delete_application(request).await.unwrap();
    for verifier in [&verifier, &with_key] {
        until("it is lost", async || is_lost(verifier, &good)).await;
    }
    assert!(wired.admin.is_active(&good).await, "the token itself is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn lagging_replica_revives_no_token() {
    // B learns of changes at A only when a test triggers it.
    let slow = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [a, b] = Keyward::replicas(None, &slow).await;
    let mut wired = Wired::to(a).await;
    let settings = Settings { max_lag: Duration::from_hours(1), ..wired.settings() };
    let verifier = Verifier::connect(settings).await.unwrap();
    let token = wired.token().await;
    revoke(&mut wired.admin, ACME, "").await;
    refused(&verifier, &token, &Refusal::Revoked).await;
    wired.proxy.lead_to(b.server().grpc).await;
    until("it follows the other one", async || b.server().service.feeds.watching() > 0).await;
    let at_b = b.server().service.revocations().index();
    until("which knows as much", async || at_b.last() == 1).await;
    assert_eq!(verifier.verify(&token), Err(Refusal::Revoked));
    assert_eq!(verifier.revocations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_verifier_backs_off() {
    let kw = Backend::Sqlite.start().await;
    let gateway = gateway(&mut kw.admin().await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let _verifier = Verifier::start(settings(&kw, &server, &gateway)).unwrap();
    let began = now();
    for attempt in 0..12 {
        let came = in_time(format!("attempt {attempt}"), listener.accept()).await;
        drop(came.unwrap());
    }
    // An attempt connects once or twice. The pauses between six attempts are at least 25, 50, 100,
    // 200 and 400 ms.
    assert!(began.elapsed() >= Duration::from_millis(775), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_verifier_closes_its_connection() {
    let wired = Wired::to(Backend::Sqlite.start().await).await;
    let (one, other) = (wired.verifier().await, wired.verifier().await);
    let watching = || wired.kw.server().service.feeds.watching();
    until("both watch", async || watching() == 2).await;
    let same = one.clone();
    drop((one, other));
    until("one is left", async || watching() == 1).await;
    assert!(same.verify(&wired.token().await).is_ok());
    drop(same);
    until("none is left", async || watching() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_does_not_wait_for_verifiers() {
    let kw = Backend::Sqlite.start_with(&[("limits.shutdown_grace", "10m")]).await;
    let gateway = gateway(&mut kw.admin().await).await;
    let verifier = verifier(&kw, &gateway).await;
    in_time("it stops", kw.stop()).await;
    drop(verifier);
}
